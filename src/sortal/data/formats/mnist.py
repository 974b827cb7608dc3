"""The idx files of MNIST, Fashion-MNIST and their kin, `.gz` or not, in one folder (or its folder `raw`)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl

from sortal.core.errors import DataError
from sortal.data.arrays import open_array
from sortal.data.formats.classes import encode, label_findings
from sortal.data.formats.options import ReadOptions
from sortal.data.table import ImageTable, build_table

_NAME = re.compile(r"(?:.*-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?$", re.IGNORECASE)


def sniff(path: Path) -> bool:
    """A folder with `train-images-idx3-ubyte` or `t10k-images-idx3-ubyte` (`.gz` or not)."""
    return path.is_dir() and any(kind == "images" for _, kind in _files(path))


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """Splits train and test. Raises DataError when labels are missing or do not fit the images."""
    files = _files(path)
    parts = [_rows(path, files, split) for split, kind in files if kind == "images"]
    frame = pl.concat(parts)
    labels, indices = encode(frame["text"])
    table = build_table(frame.with_columns(label=indices).drop("text"), labels=labels, source=str(path), root=path)
    return table.with_findings(*label_findings(table))


def _files(path: Path) -> dict[tuple[str, str], Path]:
    found: dict[tuple[str, str], Path] = {}
    for folder in (path, path / "raw"):
        for file in sorted(folder.iterdir()) if folder.is_dir() else []:
            match = _NAME.match(file.name)
            if match and file.is_file():
                split = "train" if match[1].lower() == "train" else "test"
                found.setdefault((split, match[2].lower()), file)
    return found


def _rows(path: Path, files: dict[tuple[str, str], Path], split: str) -> pl.DataFrame:
    images = files[split, "images"]
    labels = files.get((split, "labels"))
    if labels is None:
        raise DataError(
            f"the labels of {split} are missing", where=str(path), hint="put the labels-idx1 file beside it"
        )
    pixels, numbers = open_array(images, None), open_array(labels, None)
    if pixels.ndim != 3 or numbers.shape != pixels.shape[:1]:
        raise DataError("labels do not fit the images", where=str(labels), received=f"{numbers.shape}, {pixels.shape}")
    return pl.DataFrame({"frame": np.arange(len(pixels)), "text": pl.Series(numbers).cast(pl.String)}).with_columns(
        uri=pl.lit(images.relative_to(path).as_posix()), split=pl.lit(split)
    )
