"""A single image file: one row without a label, for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.data.formats.options import ReadOptions
from sortal.data.formats.tree import IMAGE_SUFFIXES
from sortal.data.table import ImageTable, build_table, finding


def sniff(path: Path) -> bool:
    """A file whose name says image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def read(path: Path, _options: ReadOptions) -> ImageTable:
    """One row, named by the file name."""
    frame = pl.DataFrame({"uri": [path.name]})
    return build_table(frame, labels=LabelSet(names=()), source=str(path), root=path.parent)


def read_paths(paths: Sequence[str | Path]) -> ImageTable:
    """Rows without label in the order given, named as given. Whether they exist shows when they are read.

    Raises DataError for an empty sequence; a path given twice becomes one row and a finding.
    """
    given = pl.Series("uri", [Path(path).as_posix() for path in paths], dtype=pl.String)
    if not given.len():
        raise DataError("an empty sequence of paths", hint="give at least one image")
    uris = given.unique(maintain_order=True)
    table = build_table(pl.DataFrame({"uri": uris}), labels=LabelSet(names=()), source="a list of paths", root=None)
    if uris.len() == given.len():
        return table
    twice = given.filter(given.is_duplicated()).unique(maintain_order=True)
    return table.with_findings(
        finding("duplicate_row", "info", f"{twice.len()} paths were given more than once", twice)
    )
