"""The order in which pictures were taken: numbers in file names within a folder, and the time of EXIF.

Shapes: N rows of the table, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.data.survey import Survey
from sortal.data.table import ImageTable

Ints = NDArray[np.int64]

MOST_GAP_S = 120.0
"""Seconds between two pictures that may be of one burst."""
MOST_STEP = 3
"""Difference of the numbers of two pictures that may be of one burst: a few may have been thrown away."""
_LEAST_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """Rows of one class that follow one another."""

    words: str
    """What the order was read from."""
    first: Ints
    """(P,)"""
    second: Ints
    """(P,)"""


def neighbors(table: ImageTable, survey: Survey) -> tuple[Neighbors, ...]:
    """Pairs of rows of one class next to each other by number or by time, for every order that at least half of the
    rows have."""
    return tuple(found for found in (_by_number(table), _by_time(table, survey)) if len(found.first))


def _by_number(table: ImageTable) -> Neighbors:
    """Within one folder, one beginning of the name, one class."""
    stems = table.name_series().str.replace(r"\.[^./]+$", "")
    frame = pl.DataFrame(
        {
            "row": pl.int_range(len(table), eager=True),
            "label": table.frame["label"],
            "start": stems.str.extract(r"^(.*?)\d+[^\d/]*$", 1),
            "place": stems.str.extract(r"(\d{1,15})[^\d/]*$", 1).cast(pl.Int64, strict=False),
        }
    )
    known = frame.filter(pl.col("start").is_not_null() & pl.col("place").is_not_null())
    return _pairs("numbers in file names", known, ["start", "label"], len(table), most=MOST_STEP)


def _by_time(table: ImageTable, survey: Survey) -> Neighbors:
    """From one camera, of one class."""
    frame = pl.DataFrame(
        {
            "row": pl.int_range(len(table), eager=True),
            "label": table.frame["label"],
            "start": survey.frame["camera"].fill_null(""),
            "place": survey.frame["taken"].dt.timestamp("ms").cast(pl.Float64) / 1000,
        }
    )
    return _pairs("EXIF time", frame.drop_nulls("place"), ["start", "label"], len(table), most=MOST_GAP_S)


def _pairs(words: str, frame: pl.DataFrame, keys: list[str], rows: int, *, most: float) -> Neighbors:
    nothing = np.zeros(0, np.int64)
    if frame.height < max(2, rows * _LEAST_SHARE):
        return Neighbors(words=words, first=nothing, second=nothing)
    ordered = frame.sort(*keys, "place", "row")
    same = pl.all_horizontal(pl.col(key) == pl.col(key).shift(1) for key in keys)
    close = (pl.col("place") - pl.col("place").shift(1)) <= most
    beside = ordered.select((same & close).fill_null(value=False)).to_series().to_numpy()
    order = ordered["row"].to_numpy()
    places = np.flatnonzero(beside)
    return Neighbors(words=words, first=order[places - 1], second=order[places])
