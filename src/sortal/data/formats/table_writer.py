"""Writing a table of images as CSV, TSV, JSON lines or Parquet, as `tables` reads it: everything that a table has.

A region is x0, y0, x1, y1; `box` and `polygon` are lists (JSON text in CSV and TSV). Images stay where they are.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.publish import publish_file
from sortal.data.formats.options import Images, Written
from sortal.data.formats.pictures import left_behind
from sortal.data.formats.placing import Failures, beside, check_free
from sortal.data.formats.table_file import SUFFIXES, TEXT_SUFFIXES, frame_bytes
from sortal.data.table import COLUMNS, ImageTable

REGION_NAMES = ("x0", "y0", "x1", "y1")


def can_hold(table: ImageTable) -> str | None:
    """Class names may not look like several classes in one cell, nor paths begin or end in white space."""
    names = [name for name in table.labels.names if name.startswith("[") and name.endswith("]")]
    several = [name for name in table.labels.names if "|" in name or ";" in name]
    if names or several:
        return f"a class called {(names or several)[0]!r} would be taken for several classes"
    uris = table.frame["uri"]
    odd = uris.filter(uris != uris.str.strip_chars())
    return f"a path begins or ends in white space: {odd[0]!r}" if odd.len() else None


def loses(table: ImageTable) -> tuple[str, ...]:
    """Only the coarse classes."""
    return left_behind(table, "split", "attributes", "polygons", "fractions", "images", "boxes", "regions")


def write(table: ImageTable, path: Path, *, images: Images = "refer", replace: bool = False) -> Written:
    """The file `path`, by its suffix. Raises DataError for another suffix or when there is something at `path`."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError("unknown kind of table", where=str(path), hint=f"name it {', '.join(SUFFIXES)}")
    if (reason := can_hold(table)) is not None:
        raise DataError(f"a table cannot hold this: {reason}", where=table.source)
    check_free(path, replace=replace)
    failures = Failures()
    names = beside(table, path, images, failures, crops=False, replace=replace)
    frame = _frame(table, names, text=suffix in TEXT_SUFFIXES)
    publish_file(path, frame_bytes(frame, suffix))
    return Written(path=path, rows=frame.height, findings=failures.findings())


def _frame(table: ImageTable, names: dict[int, str], *, text: bool) -> pl.DataFrame:
    paths = pl.Series("path", [names.get(row) for row in range(len(table))], dtype=pl.String)
    texts = [*table.labels.names, None]
    label = pl.Series("label", [texts[label] for label in table.frame["label"]], dtype=pl.String)
    frame = table.frame.with_columns(paths, label)
    used = [name for name in ("split", "group") if frame[name].null_count() < frame.height]
    used += ["weight"] if (frame["weight"] != 1.0).any() else []
    corners = [pl.col("region").arr.get(place).alias(name) for place, name in enumerate(REGION_NAMES)]
    boxed = frame["region"].null_count() < frame.height
    own = {"path", "label", *COLUMNS}
    extra = [name for name in table.frame.columns if name not in own and not name.startswith("_")]
    shapes = [_text(name, frame[name].dtype) if text else pl.col(name) for name in extra]
    chosen = frame.select("path", "label", *used, *(corners if boxed else []), *shapes)
    return chosen.filter(pl.col("path").is_not_null())


def _text(name: str, kind: pl.DataType) -> pl.Expr:
    """Lists as JSON text, the shortest that gives the same numbers."""
    if not kind.is_nested():
        return pl.col(name)
    listed = pl.col(name).arr.to_list() if isinstance(kind, pl.Array) else pl.col(name)
    joined = listed.cast(pl.List(pl.String)).list.join(",")
    return pl.when(pl.col(name).is_not_null()).then(pl.format("[{}]", joined)).alias(name)
