"""Maps in few numbers, for programs: a coarse grid, and boxes around the places that speak most for a class.

Shapes: H and W pixels, h and w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]

CELLS = 14
"""Of a grid, a side."""
MOST_BOXES = 5
_STRONG = 0.5
"""A cell belongs to a box from this part of the strongest cell on."""
_LEAST = 0.05
"""A box holds at least this share of what speaks for the class."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A place: shares of the width and height of the image, and the share of all positive evidence that lies in it."""

    left: float
    top: float
    width: float
    height: float
    share: float


def grid(values: Floats) -> Floats:
    """(h, w): means of a map (H, W) over `CELLS` cells a side, fewer where it has fewer pixels."""
    height, width = (min(CELLS, side) for side in values.shape)
    small = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def boxes(cells: Floats) -> list[Box]:
    """Around each connected region of strong cells (h, w), the one that holds most first."""
    positive = np.maximum(cells, 0.0)
    total, top = float(positive.sum()), float(positive.max(initial=0.0))
    if total <= 0.0:
        return []
    found = [_box(region, positive, total) for region in _regions(positive >= _STRONG * top)]
    found = [box for box in found if box.share >= _LEAST]
    return sorted(found, key=lambda box: -box.share)[:MOST_BOXES]


def _box(region: list[tuple[int, int]], positive: Floats, total: float) -> Box:
    rows, columns = zip(*region, strict=True)
    height, width = positive.shape
    return Box(
        left=min(columns) / width,
        top=min(rows) / height,
        width=(max(columns) - min(columns) + 1) / width,
        height=(max(rows) - min(rows) + 1) / height,
        share=sum(float(positive[cell]) for cell in region) / total,
    )


def _regions(strong: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Cells that touch by a side, together."""
    left = {(int(row), int(column)) for row, column in np.argwhere(strong)}
    found = []
    while left:
        region, border = [], [left.pop()]
        while border:
            row, column = border.pop()
            region.append((row, column))
            near = {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)} & left
            left -= near
            border.extend(near)
        found.append(region)
    return found
