"""The shape of one part as the camera sees it from above: its height over the belt at each pixel, and its outline.

`rods` (parts that lie on their side) and `plates` (parts that lie flat) build reliefs; `surface` damages them;
`camera` lights them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sortal.data.synth.fields import Field, ramp


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where the pixels lie in the frame of the part, in millimeters from its middle.

    x, y: (H, W). pixel_mm: the side of one pixel. roll: 0..1, how this specimen happened to come to lie: which face of
    a hexagon is up, where a thread starts.
    """

    x: Field
    y: Field
    pixel_mm: float
    roll: float


@dataclass(frozen=True, kw_only=True)
class Relief:
    """height: (H, W) mm; cover: (H, W) 0..1, how much of a pixel the part fills; inlay: (H, W) 0..1, how much of it is
    of a second material (a nylon ring, a rubber seal), named by `inlay_finish`."""

    height: Field
    cover: Field
    inlay: Field | None = None
    inlay_finish: str = "nylon"


def solid(grid: Grid, distance: Field, height: Field, inlay: Field | None = None, finish: str = "nylon") -> Relief:
    """A part whose outline is where `distance` (mm, negative inside) is zero."""
    cover = np.clip(0.5 - distance / grid.pixel_mm, 0, 1)
    return Relief(height=np.where(cover > 0, height, np.float32(0)), cover=cover, inlay=inlay, inlay_finish=finish)


def slab(distance: Field, thickness: float, bevel: float) -> Field:
    """Height of a flat part whose rim is rounded over `bevel` mm."""
    return thickness - bevel * 0.8 * (1 - ramp(-distance, 0.0, bevel))


def bore(grid: Grid, d: float) -> Field:
    """Distance to the hole of a nut of thread diameter `d`."""
    return np.hypot(grid.x, grid.y) - 0.44 * d


def ring(grid: Grid, inner: float, outer: float) -> Field:
    """Distance to a ring around the origin; radii in mm."""
    radius = np.hypot(grid.x, grid.y)
    return np.maximum(radius - outer, inner - radius)


def turning(grid: Grid, depth: float) -> Field:
    """The fine rings that a lathe leaves: `depth` is about how far their flanks slope. They draw the lamp out to the
    two bright sectors that turned faces show."""
    radius = np.hypot(grid.x, grid.y)
    fine = np.sin(radius * 17 + 6 * grid.roll) / 17 + np.sin(radius * 11.3 + 12 * grid.roll) / 11.3
    return fine * depth
