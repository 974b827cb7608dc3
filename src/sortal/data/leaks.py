"""Leaks between splits: which rows are judged on although something of them trained, and what that does to a result.

The kinds of leaks, and what each is called in findings, are listed here once: `KINDS`.

Shapes: N rows of the table, M judged rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Table
from sortal.core.shares import wilson
from sortal.data.table import ImageTable
from sortal.data.units import BURST, NEAR, units

Flags = NDArray[np.bool_]

KINDS = {
    "digest": ("duplicates_across_splits", "have an identical copy in another split"),
    NEAR: ("near_duplicates_across_splits", "have a near duplicate in another split"),
    BURST: ("burst_across_splits", "were taken together with images of another split"),
    "group": ("group_across_splits", "belong to a group that is in another split too"),
}
"""Columns of `units.LINKS` whose values must not be in several splits: the code of the finding, and what is said of the
images."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Accuracy on some of the judged images, with its Wilson interval; None where there are none."""

    images: int
    accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """A result divided into images that leaked and images that did not."""

    every: Part
    leaked: Part
    clean: Part

    @property
    def points(self) -> float | None:
        """By how many percentage points leaks flatter the accuracy; None where nothing is clean."""
        if self.every.accuracy is None or self.clean.accuracy is None:
            return None
        return 100 * (self.every.accuracy - self.clean.accuracy)


def shared(table: ImageTable, link: str) -> Flags:
    """(N,) rows whose value of a column of `LINKS` is in more than one split."""
    if link not in table.frame.columns:
        return np.zeros(len(table), bool)
    placed = pl.col("split").is_not_null() & pl.col(link).is_not_null()
    several = (pl.col("split").filter(placed).n_unique().over(link) > 1) & placed
    return np.asarray(table.frame.select(several.fill_null(value=False)).to_series().to_numpy())


def leaks_of(table: ImageTable) -> dict[str, Flags]:
    """(N,) for each of KINDS: the rows that leak. Identical copies are not told again as near duplicates."""
    flags = {link: shared(table, link) for link in KINDS}
    flags[NEAR] &= ~flags["digest"]
    return flags


def words_of(table: ImageTable, link: str, rows: Flags) -> str:
    """How many rows (N,) leak by a link, and over which splits."""
    leaked = table.frame.select("split", key=link).filter(pl.Series(rows))
    keys = leaked.group_by("key").agg(pl.col("split").unique().sort().str.join("+"), pl.len())
    counted = keys.group_by("split").agg(pl.col("len").sum()).sort("split")
    listed = ", ".join(f"{images:,} in {splits}" for splits, images in counted.iter_rows())
    count = int(rows.sum())
    return f"{count:,} {'image' if count == 1 else 'images'} {KINDS[link][1]} ({listed})"


def leaked_rows(table: ImageTable) -> Flags:
    """(N,) rows of val and test whose unit is in an earlier split too: train, or val for test rows."""
    order = table.frame["split"].replace_strict(["train", "val", "test"], [0, 1, 2], default=3, return_dtype=pl.Int64)
    numbers = order.to_numpy().astype(np.int64)
    kept = units(table)
    earliest = np.full(len(table), 3, np.int64)
    np.minimum.at(earliest, kept, numbers)
    return np.asarray((numbers < 3) & (earliest[kept] < numbers))


def optimism(right: Flags, leaked: Flags, *, confidence: float = 0.95) -> Optimism:
    """The accuracy of answers (M,) on all images, on those that leaked (M,), and on the others."""
    return Optimism(
        every=_part(right, confidence),
        leaked=_part(right[leaked], confidence),
        clean=_part(right[~leaked], confidence),
    )


def optimism_table(found: Optimism) -> Table:
    """One row each for all, leaked and clean images."""
    parts = {"all": found.every, "leaked": found.leaked, "clean": found.clean}
    rows = tuple((name, part.images, part.accuracy, part.low, part.high) for name, part in parts.items())
    return Table(columns=("test images", "images", "accuracy", "low", "high"), rows=rows)


def _part(right: Flags, confidence: float) -> Part:
    count = len(right)
    if not count:
        return Part(images=0, accuracy=None, low=None, high=None)
    low, high = wilson(right.sum(), count, confidence)
    return Part(images=count, accuracy=float(right.mean()), low=float(low), high=float(high))
