"""Scalar fields over the picture: distances to outlines, smooth noise, blur.

All fields are float32 arrays (H, W). Distances are in millimeters, negative inside, after the well-known signed
distance functions of Inigo Quilez (https://iquilezles.org/articles/distfunctions2d/). What the outlines mean is left
to `rods` and `plates`.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Field: TypeAlias = npt.NDArray[np.floating[Any]]


def disc(x: Field, y: Field, radius: float) -> Field:
    """Distance to a disc at the origin."""
    return np.hypot(x, y) - radius


def box(x: Field, y: Field, width: float, height: float, corner: float = 0.0) -> Field:
    """Distance to a box at the origin with rounded corners."""
    dx = np.abs(x) - (width / 2 - corner)
    dy = np.abs(y) - (height / 2 - corner)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return outside + np.minimum(np.maximum(dx, dy), 0) - corner


def polygon(x: Field, y: Field, sides: int, apothem: float) -> Field:
    """Distance to a regular polygon at the origin (exact at its sides, a bound beyond its corners)."""
    normals = [(math.cos(2 * math.pi * k / sides), math.sin(2 * math.pi * k / sides)) for k in range(sides)]
    return _largest([c * x + s * y for c, s in normals]) - apothem


def capsule(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    """Distance to a line from `start` to `end` with round ends."""
    px, py = x - start[0], y - start[1]
    bx, by = end[0] - start[0], end[1] - start[1]
    along = np.clip((px * bx + py * by) / max(bx * bx + by * by, 1e-9), 0, 1)
    return np.hypot(px - bx * along, py - by * along) - radius


def turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """The coordinates seen from a frame turned by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    return c * x + s * y, c * y - s * x


def ramp(value: Field, low: float, high: float) -> Field:
    """0 at `low`, 1 at `high`, smooth between."""
    t: Field = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def cloud(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Field:
    """Smooth noise of mean 0 and about unit variance with `cells` (rows, columns) lumps over the picture."""
    knots = rng.standard_normal((cells[0] + 3, cells[1] + 3), dtype=np.float32)
    grown = Image.fromarray(knots).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(grown, dtype=np.float32) * 1.4


def blur(field: Field, radius: int) -> Field:
    """Two box blurs of `radius` pixels (nearly a Gaussian of that sigma), edges repeated."""
    for axis in (0, 1):
        field = _box(_box(field, radius, axis), radius, axis)
    return field


def shift(field: Field, rows: float, columns: float) -> Field:
    """The field moved by whole pixels (rounded); what enters repeats the edge."""
    height, width = field.shape
    row = np.clip(np.arange(height) - round(rows), 0, height - 1)
    column = np.clip(np.arange(width) - round(columns), 0, width - 1)
    return field[row[:, None], column[None, :]]


def shrink(field: Field, factor: int) -> Field:
    """Means over `factor` x `factor` pixels."""
    if factor == 1:
        return field
    height, width = field.shape[0] // factor, field.shape[1] // factor
    rows = field.reshape(height, factor, field.shape[1])
    summed: Field = rows.sum(axis=1).reshape(height, width, factor).sum(axis=2)
    return summed / float(factor * factor)


def _box(field: Field, radius: int, axis: int) -> Field:
    if radius < 1:
        return field
    before = [(0, 0), (0, 0)]
    before[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(field, before, mode="edge"), axis=axis, dtype=np.float32)
    size = 2 * radius + 1
    count = field.shape[axis]
    high = sums[size:] if axis == 0 else sums[:, size:]
    low = sums[:count] if axis == 0 else sums[:, :count]
    return (high - low) / float(size)


def _largest(fields: list[Field]) -> Field:
    found = fields[0]
    for field in fields[1:]:
        found = np.maximum(found, field)
    return found
