"""Arrays in one `.npz`: MedMNIST (`train_images`, `train_labels`, ...), Keras (`x_train`, `y_train`), or plain
(`images`, `labels`).

Images are uint8 or uint16, (N, H, W) or (N, H, W, C). Class names are the label numbers, unless the file has an array
`class_names` (or `label_names`) of text.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.data.arrays import open_array
from sortal.data.formats.classes import SPLIT_NAMES, encode, label_findings
from sortal.data.formats.options import ReadOptions
from sortal.data.table import ImageTable, build_table

_IMAGES = ("images", "image", "x", "data")
_LABELS = ("labels", "label", "y", "targets")
_NAMES = ("class_names", "label_names")
_EXPECTED = "expected arrays such as train_images and train_labels, x_train and y_train, or images and labels"


def sniff(path: Path) -> bool:
    """A file called `.npz`."""
    return path.suffix.lower() == ".npz" and path.is_file()


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """A row for each image. Raises DataError for multi-label arrays, float pixels, volumes and unequal lengths."""
    parts = [_rows(path, images, labels, split) for images, labels, split in _pairs(path)]
    if not parts:
        raise DataError(
            f"no images here, only {', '.join(_members(path)) or 'nothing'}", where=str(path), hint=_EXPECTED
        )
    frame = pl.concat(parts)
    labels, indices = encode(*_named(path, frame["text"]))
    table = build_table(
        frame.with_columns(label=indices).drop("text"), labels=labels, source=str(path), root=path.parent
    )
    return table.with_findings(*label_findings(table))


def _pairs(path: Path) -> Iterator[tuple[str, str | None, str | None]]:
    """(images member, labels member, split) in the order of the splits."""
    found: dict[tuple[str | None, str], str] = {}
    for member in _members(path):
        split, kind = _parse(member)
        if kind:
            found[split, kind] = member
    for split in (None, "train", "val", "test"):
        images = found.get((split, "images"))
        if images is not None:
            yield images, found.get((split, "labels")), split


def _parse(member: str) -> tuple[str | None, str | None]:
    """`val_images` and `x_test` as (split, images or labels)."""
    words = re.split(r"[_.]", member.casefold())
    splits = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    rest = [word for word in words if word not in SPLIT_NAMES]
    if len(rest) != 1 or len(splits) > 1:
        return None, None
    kind = "images" if rest[0] in _IMAGES else "labels" if rest[0] in _LABELS else None
    return (splits[0] if splits else None), kind


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"not a readable .npz file: {error}", where=str(path)) from error


def _rows(path: Path, images: str, labels: str | None, split: str | None) -> pl.DataFrame:
    shape = _checked_images(path, images)
    numbers = None if labels is None else _checked_labels(path, labels, shape[0])
    texts = pl.Series([None] * shape[0], dtype=pl.String) if numbers is None else pl.Series(numbers).cast(pl.String)
    return pl.DataFrame({"frame": np.arange(shape[0])}).with_columns(
        uri=pl.lit(path.name), member=pl.lit(images), split=pl.lit(split, dtype=pl.String), text=texts
    )


def _checked_images(path: Path, member: str) -> tuple[int, ...]:
    array = open_array(path, member)
    where = f"{path}::{member}"
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        hint = "store pixels as uint8 (0 to 255) or uint16"
        raise DataError("pixels of an unsupported type", where=where, received=str(array.dtype), hint=hint)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)):
        hint = "store images as (N, H, W) or (N, H, W, 1, 3 or 4); volumes are not read"
        raise DataError("not an array of images", where=where, received=f"shape {array.shape}", hint=hint)
    return array.shape


def _checked_labels(path: Path, member: str, expected: int) -> NDArray[Any]:
    array = np.asarray(open_array(path, member))
    where = f"{path}::{member}"
    if array.ndim == 2 and array.shape[1] > 1:
        hint = "sortal learns one class an image; store one number an image, shape (N,)"
        raise DataError("multi-label data", where=where, received=f"shape {array.shape}", hint=hint)
    if array.size != expected or array.ndim > 2:
        raise DataError("not one label an image", where=where, received=f"{array.shape} for {expected} images")
    if array.dtype.kind not in "iubU":
        raise DataError("labels must be whole numbers or text", where=where, received=str(array.dtype))
    return array.reshape(-1).astype(np.int64) if array.dtype.kind == "b" else array.reshape(-1)


def _named(path: Path, texts: pl.Series) -> tuple[pl.Series, list[str] | None]:
    """Label numbers replaced by the names that the file may hold."""
    member = next((name for name in _members(path) if name in _NAMES), None)
    if member is None:
        return texts, None
    names = [str(name) for name in open_array(path, member).reshape(-1)]
    table = {str(number): name for number, name in enumerate(names)}
    strangers = set(texts.unique().drop_nulls()) - set(table)
    if strangers:
        raise DataError(
            "labels without a class name", where=f"{path}::{member}", received=", ".join(sorted(strangers)[:5])
        )
    return texts.replace_strict(table, default=None, return_dtype=pl.String), names
