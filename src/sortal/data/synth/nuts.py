"""Nuts and washers, lying flat.

Every function takes the grid, the thread diameter `d` in mm and the variant, and returns a Relief.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sortal.data.synth.fields import Field, box, capsule, disc, polygon, ramp
from sortal.data.synth.relief import Grid, Relief, bore, ring, slab, solid, turning


def hex_nut(grid: Grid, d: float, variant: str) -> Relief:
    distance = np.maximum(polygon(grid.x, grid.y, 6, 0.8 * d), -bore(grid, d))
    return solid(grid, distance, _nut_face(grid, d, 0.8 * d, variant))


def square_nut(grid: Grid, d: float, variant: str) -> Relief:
    distance = np.maximum(box(grid.x, grid.y, 1.6 * d, 1.6 * d, 0.06 * d), -bore(grid, d))
    return solid(grid, distance, _nut_face(grid, d, 0.95 * d, variant))


def lock_nut(grid: Grid, d: float, variant: str) -> Relief:
    distance = np.maximum(polygon(grid.x, grid.y, 6, 0.8 * d), -bore(grid, d * 0.92))
    radius = np.hypot(grid.x, grid.y)
    collar = 0.14 * d * (ramp(radius, 0.6 * d, 0.62 * d) - ramp(radius, 0.7 * d, 0.74 * d))
    height = _nut_face(grid, d, 0.8 * d, "plain") + collar
    inlay = 1 - ramp(radius, 0.6 * d, 0.6 * d + grid.pixel_mm)
    return solid(grid, distance, height, inlay, "nylon" if variant == "plain" else "blue")


def flange_nut(grid: Grid, d: float, variant: str) -> Relief:
    radius = np.hypot(grid.x, grid.y)
    distance = np.maximum(radius - 1.06 * d, -bore(grid, d))
    skirt = 0.25 * d + 0.5 * np.clip(1.06 * d - radius, 0, 0.4 * d)
    if variant == "serrated":
        skirt = skirt + 0.05 * d * np.sin(30 * np.arctan2(grid.y, grid.x)) * ramp(radius, 0.86 * d, 0.9 * d)
    nut = polygon(grid.x, grid.y, 6, 0.76 * d)
    top = _nut_face(grid, d, 0.76 * d, "plain") + 0.3 * d
    return solid(grid, distance, np.where(nut < 0, top, skirt))


def cap_nut(grid: Grid, d: float, variant: str) -> Relief:
    distance = polygon(grid.x, grid.y, 6, 0.8 * d)
    dome = (0.72 if variant == "plain" else 0.6) * d
    radius = np.hypot(grid.x, grid.y)
    ball = np.sqrt(np.clip(dome**2 - radius**2, 0, None)) * (1.1 if variant == "plain" else 0.7)
    return solid(grid, distance, np.maximum(_nut_face(grid, d, 0.8 * d, "blind"), ball + 0.62 * d * (ball > 0)))


def castle_nut(grid: Grid, d: float, variant: str) -> Relief:
    distance = np.maximum(polygon(grid.x, grid.y, 6, 0.8 * d), -bore(grid, d))
    angle, radius = np.arctan2(grid.y, grid.x), np.hypot(grid.x, grid.y)
    slots = 6 if variant == "plain" else 3
    across = np.abs(np.sin(angle * slots / 2)) * radius
    groove = 0.35 * d * (1 - ramp(across, 0.2 * d, 0.26 * d))
    return solid(grid, distance, _nut_face(grid, d, 0.8 * d, "plain") - groove)


def wing_nut(grid: Grid, d: float, variant: str) -> Relief:
    wide = 1.05 * d if variant == "plain" else 1.25 * d
    hub = disc(grid.x, grid.y, 0.72 * d)
    left = capsule(grid.x, grid.y, (-0.5 * d, -0.12 * d), (-wide, 0.1 * d), 0.3 * d)
    right = capsule(grid.x, grid.y, (0.5 * d, 0.12 * d), (wide, -0.1 * d), 0.3 * d)
    wings = np.minimum(left, right)
    distance = np.maximum(np.minimum(hub, wings), -bore(grid, d * 0.95))
    height = np.maximum(_pillow(wings, 0.3 * d) * 1.6, slab(hub, 0.6 * d, 0.2 * d) * (hub < 0))
    return solid(grid, distance, height)


def flat_washer(grid: Grid, d: float, variant: str) -> Relief:
    outer = 1.02 * d if variant == "plain" else 1.3 * d
    distance = ring(grid, 0.54 * d, outer)
    return solid(grid, distance, slab(distance, 0.18 * d, 0.1 * d) + turning(grid, 0.16))


def spring_washer(grid: Grid, d: float, variant: str) -> Relief:
    inner, outer = 0.54 * d, (0.86 if variant == "plain" else 0.98) * d
    body = ring(grid, inner, outer)
    gap = np.abs(grid.y - 0.35 * (grid.x - inner)) - 0.07 * d
    distance = np.maximum(body, -np.maximum(gap, -grid.x))
    rise = 0.12 * d * np.arctan2(grid.y, grid.x) / math.pi
    return solid(grid, distance, slab(body, 0.28 * d, 0.12 * d) + rise)


def tooth_washer(grid: Grid, d: float, variant: str) -> Relief:
    angle, radius = np.arctan2(grid.y, grid.x), np.hypot(grid.x, grid.y)
    tooth = np.clip(np.cos(14 * angle) * 1.8, -1, 1)
    outward = variant == "external"
    edge = radius - 0.92 * d - 0.11 * d * tooth if outward else radius - 1.0 * d
    bore = 0.54 * d - radius if outward else 0.6 * d + 0.1 * d * tooth - radius
    distance = np.maximum(edge, bore) * 0.7
    twist = (
        0.09
        * d
        * np.sin(14 * angle)
        * (ramp(radius, 0.75 * d, 0.9 * d) if outward else 1 - ramp(radius, 0.65 * d, 0.8 * d))
    )
    return solid(grid, distance, slab(distance, 0.16 * d, 0.07 * d) + twist)


NUTS: dict[str, Callable[[Grid, float, str], Relief]] = {
    "hex-nut": hex_nut,
    "square-nut": square_nut,
    "lock-nut": lock_nut,
    "flange-nut": flange_nut,
    "cap-nut": cap_nut,
    "castle-nut": castle_nut,
    "wing-nut": wing_nut,
    "flat-washer": flat_washer,
    "spring-washer": spring_washer,
    "tooth-washer": tooth_washer,
}


def _nut_face(grid: Grid, d: float, chamfer: float, variant: str) -> Field:
    """The face of a nut: corners cut by a cone of 30 degrees, the bore countersunk, its thread seen as rings."""
    radius = np.hypot(grid.x, grid.y)
    height = 0.8 * d - 0.55 * np.clip(radius - 1.02 * chamfer, 0, None) * 1.6
    if variant == "blind":
        return height
    sink = 0.62 * d if variant == "countersunk" else 0.54 * d
    return height - 1.0 * np.clip(sink - radius, 0, None) + 0.02 * d * np.sin(radius * 60 / d) * (radius < sink)


def _pillow(distance: Field, width: float) -> Field:
    depth: Field = np.clip(-distance / width, 0, 1)
    bulge: Field = np.sqrt(np.clip(1 - (1 - depth) ** 2, 0, None))
    return width * bulge
