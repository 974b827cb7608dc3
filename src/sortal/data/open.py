"""From what a user points at to an ImageTable: find the format, read it, apply group and level."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
from pydantic import ValidationError

from sortal.core.errors import DataError, MachineError, nearest
from sortal.data.formats import FORMATS
from sortal.data.formats.classes import with_label_findings
from sortal.data.formats.image import read_paths
from sortal.data.formats.options import Boxes, ReadOptions
from sortal.data.formats.tree import Tree, remote_tree
from sortal.data.remote import is_remote, local_path
from sortal.data.table import ImageTable, finding

Level = Literal["fine", "coarse"]

_EXPECTED = (
    "expected class folders, a CSV/TSV/JSONL/Parquet table, list files, a JSON manifest, annotations of COCO, YOLO, "
    "Pascal VOC, CVAT or Label Studio, .npz, CIFAR or MNIST files, a .zip or .tar of these folders, or an image"
)


def images(
    source: str | Path | Sequence[str | Path],
    *,
    label: str = "label",
    group: str | None = None,
    level: str | None = None,
    format: str | None = None,
    boxes: str | None = None,
    margin: float = 0.0,
) -> ImageTable:
    """The images at `source`: a path of any known format, the URL of a remote folder, or a sequence of image paths.

    `label` is the label column of tables; `group` a column, or a regular expression over row names whose first group is
    the key; `level` the level of a taxonomy to learn; `format` the name of a format, found by itself when None.
    Annotated boxes become crops with a `margin` (share of a box's side), or with `boxes` = `image` or `largest` one
    label an image. Raises DataError that says what was found and what is expected, MachineError when the source may not
    be read.
    """
    if level not in (None, *get_args(Level)):
        raise DataError("unknown level", received=str(level), hint="fine or coarse")
    if boxes not in (None, *get_args(Boxes)):
        raise DataError("unknown way to take boxes", received=str(boxes), hint=", ".join(get_args(Boxes)))
    options = ReadOptions(label=label, group=group, level=level, boxes=boxes or "crops", margin=margin)  # type: ignore[arg-type]
    table = _any(source, format, options)
    table = table if group is None else with_group(table, group)
    return to_coarse(table) if level == "coarse" else table


def with_group(table: ImageTable, group: str) -> ImageTable:
    """Fill `group` from a column, or from a pattern over row names. Raises DataError when it is neither."""
    if group in table.frame.columns:
        return table.with_columns({"group": table.frame[group].cast(pl.String)})
    keys = _extract(table, group)
    if keys.null_count() == len(table):
        hint = nearest(group, [name for name in table.frame.columns if not name.startswith("_")])
        raise DataError(
            "no column of this name, and as a pattern it matches no row", where="group", received=group, hint=hint
        )
    grouped = table.with_columns({"group": keys})
    if not keys.null_count():
        return grouped
    rows = table.name_series().filter(keys.is_null())
    message = f"{rows.len()} rows do not match the group pattern and count as groups of their own"
    return grouped.with_findings(finding("group_missing", "warning", message, rows.head(1000)))


def to_coarse(table: ImageTable) -> ImageTable:
    """The same rows labeled by coarse class; the fine class stays in the column `fine`. Needs a taxonomy."""
    coarse, mapping = table.labels.coarse(), table.labels.coarse_index()
    if coarse is None or mapping is None:
        raise DataError("there is no taxonomy, so there is no coarse level", where=table.source)
    fine = pl.col("label").replace_strict(
        list(range(len(table.labels))), list(table.labels.names), default=None, return_dtype=pl.String
    )
    label = pl.col("label").replace_strict(list(range(len(mapping))), mapping, default=-1, return_dtype=pl.Int64)
    frame = table.frame.with_columns(label=label, fine=fine)
    return with_label_findings(replace(table, frame=frame, labels=coarse))


def _extract(table: ImageTable, pattern: str) -> pl.Series:
    try:
        if not re.compile(pattern).groups:
            return pl.Series([None] * len(table), dtype=pl.String)
        return table.name_series().str.extract(pattern, 1)
    except (re.error, pl.exceptions.ComputeError) as error:
        hint = "a pattern such as '(lot[0-9]+)_' without look-around"
        raise DataError("not a valid pattern", where="group", received=pattern, hint=hint) from error


def _any(source: str | Path | Sequence[str | Path], name: str | None, options: ReadOptions) -> ImageTable:
    if isinstance(source, str) and is_remote(source):
        path = local_path(source)
        return _read_remote(source, name, options) if path is None else _read(path, name, options)
    return _read(Path(source), name, options) if isinstance(source, str | Path) else read_paths(source)


def _read_remote(url: str, name: str | None, options: ReadOptions) -> ImageTable:
    """A remote folder in the first format that reads listed trees and knows this one; class folders know every tree."""
    tree = remote_tree(url)
    members = [FORMATS.get(known) for known in (FORMATS.names() if name is None else [name])]
    readers = [member for member in members if hasattr(member, "read_tree")]
    if not readers:
        raise DataError("this format is not read from remote folders", where=url, received=str(name))
    reader = readers[0] if name is not None else next(member for member in readers if _knows(member, tree))
    try:
        table: ImageTable = reader.read_tree(tree, options)
    except ValidationError as error:
        raise DataError(f"the classes are not valid: {error.errors()[0]['msg']}", where=url) from error
    return table


def _knows(member: Any, tree: Tree) -> bool:
    return bool(member.sniff(tree))


def _read(path: Path, name: str | None, options: ReadOptions) -> ImageTable:
    try:
        table: ImageTable = _reader(path, name).read(path, options)
    except OSError as error:
        raise MachineError(f"cannot read this source: {error.strerror or error}", where=str(path)) from error
    except ValidationError as error:
        raise DataError(f"the classes are not valid: {error.errors()[0]['msg']}", where=str(path)) from error
    return table


def _reader(path: Path, name: str | None) -> Any:
    if name is not None:
        _must_exist(path)
        return FORMATS.get(name)
    own = set(FORMATS.table)
    for candidate in sorted(FORMATS.names(), key=lambda known: known in own):
        reader = FORMATS.get(candidate)
        if reader.sniff(path):
            return reader
    _must_exist(path)
    raise DataError("not a source of images that is understood", where=str(path), received=_kind(path), hint=_EXPECTED)


def _must_exist(path: Path) -> None:
    if path.exists():
        return
    if path.is_symlink():
        raise DataError("a link that leads nowhere", where=str(path))
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest(path.name, siblings) if siblings else None
    raise DataError("there is no such file or folder", where=str(path), hint=close or _EXPECTED)


def _kind(path: Path) -> str:
    if not path.is_file():
        return "a device, FIFO or socket"
    return f"a file ending in {path.suffix}" if path.suffix else "a file without a suffix"
