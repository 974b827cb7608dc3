"""Rows on their way into a table: what is left out on the way is named, with a finding for each reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.report import Finding
from sortal.data.table import REJECTED_SCHEMA, finding

RESERVED = ("uri", "member", "frame", "region", "digest")
"""Columns of a table that no column of a source may be called."""

MULTI_LABEL_SHARE = 0.05
"""Above this share of images listed under several classes the data are taken for multi-label, not for mistakes."""


class Rows:
    """A frame with `uri` (and maybe `text`, `region`), the findings so far, and the rows left out so far."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.findings: list[Finding] = []
        self.rejected = pl.DataFrame(schema=REJECTED_SCHEMA)

    def reject(self, bad: pl.Series, code: str, why: str, hint: str | None = None) -> None:
        """Leave out the rows where `bad` holds, with one finding that names them."""
        names = self.frame["uri"].filter(bad)
        if not names.len():
            return
        self.findings.append(finding(code, "warning", f"{names.len()} rows left out: {why}", names.head(1000), hint))
        moved = pl.DataFrame({"name": names}).with_columns(code=pl.lit(code), reason=pl.lit(why))
        self.rejected = pl.concat([self.rejected, moved])
        self.frame = self.frame.filter(~bad)

    def reject_missing(self, folder: Path) -> None:
        """Leave out rows whose file does not exist below `folder`. Raises DataError when that is all of them."""
        uris = self.frame["uri"].unique()
        lost = uris.filter(pl.Series([not uri or not _exists(folder, uri) for uri in uris], dtype=pl.Boolean))
        if lost.len() == uris.len():
            tried = folder / self.frame["uri"][0]
            hint = "relative paths are relative to the folder of the table"
            raise DataError("none of the images exists", where=str(folder), received=f"first tried: {tried}", hint=hint)
        self.reject(self.frame["uri"].is_in(lost.implode()), "missing_file", "there is no such file")

    def reject_regions(self) -> None:
        """Leave out rows whose region is not inside the image or has no area."""
        corner: Callable[[int], pl.Expr] = pl.col("region").arr.get
        inside = (corner(0) >= 0) & (corner(1) >= 0) & (corner(2) <= 1) & (corner(3) <= 1)
        good = inside & (corner(0) < corner(2)) & (corner(1) < corner(3))
        bad = self.frame.select((pl.col("region").is_not_null() & ~good).fill_null(value=False)).to_series()
        self.reject(bad, "bad_region", "the region must be x0 < x1, y0 < y1 in fractions from 0 to 1")


def merge_repeats(rows: Rows, where: str) -> None:
    """One row an image (or region): repeats with the same label become one, with different labels are left out.

    Raises DataError when so many images have several labels that the data are multi-label.
    """
    keys = ["uri", "region"] if "region" in rows.frame.columns else ["uri"]
    if not rows.frame.select(keys).is_duplicated().any():
        return
    kinds = rows.frame.select(pl.col("text").n_unique().over(keys)).to_series()
    conflict = kinds > 1
    images = rows.frame.select(keys).unique().height
    several = rows.frame.filter(conflict).select(keys).unique().height
    if several > max(1, MULTI_LABEL_SHARE * images):
        hint = "sortal learns one class an image; keep one row for each"
        raise DataError("multi-label data", where=where, received=f"{several} images under several classes", hint=hint)
    rows.reject(conflict, "conflicting_labels", "the same image is listed under different classes")
    repeat = ~rows.frame.select(pl.struct(keys).is_first_distinct()).to_series()
    rows.reject(repeat, "duplicate_row", "the same image is listed again")


def _exists(folder: Path, uri: str) -> bool:
    try:
        return os.path.lexists(os.path.join(folder, uri))  # noqa: PTH118  (a million times: Path is ten times slower)
    except ValueError:
        return False
