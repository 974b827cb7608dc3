"""Boxes as columns: which of them are none, and the region of the image that each stands for.

A box is (x0, y0, x1, y1) in fractions of the upright image's width and height, as annotated: it may lie partly
outside. A region lies inside the image and has an area. Coordinates are edges of pixels: the whole image is 0, 0, 1, 1.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError

BOX = pl.Array(pl.Float64, 4)
POLYGON = pl.List(pl.Float64)
SLACK = 1e-6
"""Fractions beyond the image that nobody is told about: rounding of percentages and of six digits."""

Floats = NDArray[np.float64]


def box_problem(box: str = "box") -> pl.Expr:
    """Why a box is none, null for sound ones and where there is no box."""
    x0, y0, x1, y1 = (pl.col(box).arr.get(place) for place in range(4))
    finite = pl.all_horizontal(corner.is_finite().fill_null(value=False) for corner in (x0, y0, x1, y1))
    return (
        pl.when(pl.col(box).is_null())
        .then(pl.lit(None, dtype=pl.String))
        .when(~finite)
        .then(pl.lit("a corner is no number"))
        .when((x0 > x1) | (y0 > y1))
        .then(pl.lit("its corners are swapped"))
        .when((x0 == x1) | (y0 == y1))
        .then(pl.lit("it has no area"))
        .when((x1 <= 0) | (y1 <= 0) | (x0 >= 1) | (y0 >= 1))
        .then(pl.lit("it lies outside the image"))
    )


def reaches_out(box: str = "box") -> pl.Expr:
    """Whether a sound box lies partly outside the image."""
    low = pl.min_horizontal(pl.col(box).arr.get(0), pl.col(box).arr.get(1)) < -SLACK
    high = pl.max_horizontal(pl.col(box).arr.get(2), pl.col(box).arr.get(3)) > 1 + SLACK
    return (low | high).fill_null(value=False)


def regions(boxes: pl.Series, margin: float = 0.0) -> pl.Series:
    """The region of each sound box (null stays), grown on every side by `margin` of its own width or height, clipped.

    Raises DataError for a margin that is negative or no number.
    """
    if not (0 <= margin < float("inf")):
        raise DataError("the margin around boxes is a share of 0 or more", where="margin", received=str(margin))
    x0, y0, x1, y1 = (pl.col("box").arr.get(place) for place in range(4))
    by = (margin * (x1 - x0), margin * (y1 - y0))
    corners = [corner.clip(0.0, 1.0) for corner in (x0 - by[0], y0 - by[1], x1 + by[0], y1 + by[1])]
    region = pl.when(pl.col("box").is_not_null()).then(pl.concat_list(corners).list.to_array(4))
    return boxes.cast(BOX).alias("box").to_frame().select(region.alias("region")).to_series()


def areas(box: str = "box") -> pl.Expr:
    """Share of the image that each box covers, clipped to it."""
    x0, y0, x1, y1 = (pl.col(box).arr.get(place).clip(0.0, 1.0) for place in range(4))
    return (x1 - x0) * (y1 - y0)


def polygon_bounds(polygon: str = "polygon") -> pl.Expr:
    """The box around each polygon (x, y, x, y ...), null where there is none."""
    x = pl.col(polygon).list.gather_every(2, 0)
    y = pl.col(polygon).list.gather_every(2, 1)
    around = pl.concat_list(x.list.min(), y.list.min(), x.list.max(), y.list.max())
    return pl.when(pl.col(polygon).is_not_null()).then(around.list.to_array(4)).cast(BOX)


def overlap(one: Floats, other: Floats) -> Floats:
    """Intersection over union of boxes (N, 4) with boxes (M, 4): (N, M), 0 where both are empty."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.clip(high - low, 0.0, None), axis=2)
    union = _area(one)[:, None] + _area(other)[None, :] - common
    shares: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def _area(boxes: Floats) -> Floats:
    found: Floats = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None), axis=1)
    return found
