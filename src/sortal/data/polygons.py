"""Polygons: whether a ring of corners encloses anything, how much, and which pixels.

A polygon is an array (N, 2) of corners x, y in any unit, not closed (the last corner joins the first). Where it crosses
itself the even-odd rule says what is inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError

Floats = NDArray[np.float64]
SCANLINES = 8
"""Lines through each row of pixels; along a line the coverage is exact."""

MAX_CROSSING_CORNERS = 2000
"""Polygons of more corners are not searched for crossings, which takes the square of their number."""


def polygon_problem(corners: Floats) -> str | None:
    """Why a ring encloses nothing or not one thing: too few corners, a corner that is no number, no area, crossing.

    A corner given twice in a row, as where a ring is closed, counts once.
    """
    if not np.isfinite(corners).all():
        return "a corner is no number"
    ring = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)] if len(corners) else corners
    if len(ring) < 3:
        return "it has fewer than three corners"
    if len(ring) <= MAX_CROSSING_CORNERS and _crosses(ring):
        return "it crosses or touches itself"
    return "it has no area" if polygon_area(ring) == 0 else None


def polygon_area(corners: Floats) -> float:
    """The area enclosed by a ring that does not cross itself, 0 or more: the shoelace formula (Meister 1769)."""
    if len(corners) < 3:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        x, y = (corners - corners[0]).T  # near the origin little is lost in the differences of products
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def polygon_areas(polygons: pl.Series) -> Floats:
    """(N,) areas of lists x, y, x, y ...: 0 for null and for fewer than three corners, NaN for what is no number."""
    counts = polygons.list.len().fill_null(0).to_numpy().astype(np.int64) // 2
    areas, full = np.zeros(len(counts)), counts >= 3
    if not full.any():
        return areas
    flat = polygons.filter(pl.Series(full)).explode().to_numpy().reshape(-1, 2)
    lengths = counts[full]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    following = np.arange(1, len(flat) + 1)
    following[starts + lengths - 1] = starts
    with np.errstate(invalid="ignore", over="ignore"):  # corners that are no numbers give areas that are none
        near = flat - np.repeat(flat[starts], lengths, axis=0)
        products = near[:, 0] * near[following, 1] - near[following, 0] * near[:, 1]
        areas[full] = np.abs(np.add.reduceat(products, starts)) / 2
    return areas


def ring_area(ring: Sequence[float | int | Decimal]) -> float:
    """The area of one list x, y, x, y ..., as `polygon_area`."""
    return polygon_area(np.asarray([float(value) for value in ring]).reshape(-1, 2))


def polygon_box(corners: Floats) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 around it. Raises DataError for no corners."""
    if not len(corners):
        raise DataError("a polygon without corners has no box")
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def polygon_coverage(corners: Floats, height: int, width: int) -> Floats:
    """(height, width) share of each pixel inside; corners in pixels, (0, 0) being the image's upper left corner."""
    covered = np.zeros((height, width + 1))
    if len(corners) < 3 or not np.isfinite(corners).all():
        return covered[:, :width]
    top = max(0, int(np.floor(corners[:, 1].min())))
    bottom = min(height, int(np.ceil(corners[:, 1].max())))
    for row in range(top, bottom):
        for line in range(SCANLINES):
            for start, stop in _spans(corners, row + (line + 0.5) / SCANLINES):
                _cover(covered[row], min(max(start, 0.0), width), min(max(stop, 0.0), width))
    filled: Floats = np.clip(covered[:, :width] / SCANLINES, 0.0, 1.0)
    return filled


def polygon_mask(corners: Floats, height: int, width: int) -> NDArray[np.bool_]:
    """(height, width) the pixels of which at least half is inside."""
    return polygon_coverage(corners, height, width) >= 0.5


def _spans(corners: Floats, y: float) -> Floats:
    """(K, 2) start and stop of what is inside along the line at height `y`."""
    following = np.roll(corners, -1, axis=0)
    crossing = (corners[:, 1] <= y) != (following[:, 1] <= y)
    one, other = corners[crossing], following[crossing]
    x = one[:, 0] + (y - one[:, 1]) / (other[:, 1] - one[:, 1]) * (other[:, 0] - one[:, 0])
    return np.sort(x).reshape(-1, 2)


def _cover(row: Floats, start: float, stop: float) -> None:
    """Add the exact share of each pixel between two places of a line."""
    first, last = int(start), int(stop)
    if first == last:
        row[first] += stop - start
        return
    row[first] += first + 1 - start
    row[first + 1 : last] += 1.0
    row[last] += stop - last


def _crosses(corners: Floats) -> bool:
    """Whether two edges that are no neighbours have a point in common (also by touching)."""
    count = len(corners)
    start, stop = corners, np.roll(corners, -1, axis=0)
    one, other = np.triu_indices(count, k=2)
    apart = ~((one == 0) & (other == count - 1))
    one, other = one[apart], other[apart]
    sides = [
        _side(start[one], stop[one], start[other]),
        _side(start[one], stop[one], stop[other]),
        _side(start[other], stop[other], start[one]),
        _side(start[other], stop[other], stop[one]),
    ]
    near = (np.minimum(start[one], stop[one]) <= np.maximum(start[other], stop[other])).all(axis=1)
    near &= (np.minimum(start[other], stop[other]) <= np.maximum(start[one], stop[one])).all(axis=1)
    return bool((near & (sides[0] * sides[1] <= 0) & (sides[2] * sides[3] <= 0)).any())


def _side(start: Floats, stop: Floats, point: Floats) -> Floats:
    """On which side of a line a point lies: -1, 0, 1."""
    along, to = stop - start, point - start
    side: Floats = np.sign(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])
    return side
