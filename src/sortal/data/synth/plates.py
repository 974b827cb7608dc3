"""Gears, bearings, rings, brackets and other parts that lie flat.

Every function takes the grid, a size `d` in mm (half the outer diameter of what is round, about a third of the length
of a bracket) and the variant, and returns a Relief.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sortal.data.synth.fields import Field, box, disc, polygon, ramp
from sortal.data.synth.relief import Grid, Relief, bore, ring, slab, solid, turning


def spur_gear(grid: Grid, d: float, variant: str) -> Relief:
    teeth = int(variant.removesuffix("t"))
    depth = 2.25 * d / (teeth + 2)
    distance = np.maximum(_toothed(grid, d, depth, teeth, 1.7), -_keyed_bore(grid, 0.26 * d))
    radius = np.hypot(grid.x, grid.y)
    hub = 0.16 * d * (1 - ramp(radius, 0.45 * d, 0.49 * d))
    web = -0.08 * d * ramp(radius, 0.49 * d, 0.53 * d) * (1 - ramp(radius, 0.7 * d, 0.74 * d))
    return solid(grid, distance, slab(distance, 0.35 * d, 0.05 * d) + hub + web + turning(grid, 0.16))


def sprocket(grid: Grid, d: float, variant: str) -> Relief:
    teeth = int(variant.removesuffix("t"))
    distance = np.maximum(_toothed(grid, d, 0.2 * d, teeth, 0.9), -bore(grid, 0.5 * d))
    angle, radius = np.arctan2(grid.y, grid.x), np.hypot(grid.x, grid.y)
    turn = angle - np.round(angle * 5 / (2 * math.pi)) * (2 * math.pi / 5)
    holes = np.hypot(radius * np.cos(turn) - 0.52 * d, radius * np.sin(turn)) - 0.12 * d
    distance = np.maximum(distance, -holes)
    return solid(grid, distance, slab(distance, 0.2 * d, 0.08 * d) + turning(grid, 0.16))


def pulley(grid: Grid, d: float, variant: str) -> Relief:
    distance = np.maximum(disc(grid.x, grid.y, d), -_keyed_bore(grid, 0.22 * d))
    radius = np.hypot(grid.x, grid.y)
    rim = ramp(radius, 0.74 * d, 0.79 * d)
    hub = 1 - ramp(radius, 0.36 * d, 0.41 * d)
    height = slab(distance, 0.4 * d, 0.05 * d) - 0.22 * d * (1 - np.maximum(rim, hub))
    if variant == "spoked":
        angle = np.arctan2(grid.y, grid.x)
        turn = angle - np.round(angle * 2 / math.pi) * (math.pi / 2)
        window = np.hypot(radius * np.cos(turn) - 0.57 * d, radius * np.sin(turn)) - 0.13 * d
        distance = np.maximum(distance, -window)
    return solid(grid, distance, height + turning(grid, 0.16))


def ball_bearing(grid: Grid, d: float, variant: str) -> Relief:
    distance = ring(grid, 0.42 * d, d)
    radius = np.hypot(grid.x, grid.y)
    groove = ramp(radius, 0.6 * d, 0.63 * d) * (1 - ramp(radius, 0.81 * d, 0.84 * d))
    height = slab(distance, 0.55 * d, 0.06 * d) - 0.3 * d * groove + turning(grid, 0.16)
    if variant == "sealed":
        return solid(grid, distance, height + 0.26 * d * groove, groove, "rubber")
    angle = np.arctan2(grid.y, grid.x) + 6.0 * grid.roll
    turn = angle - np.round(angle * 9 / (2 * math.pi)) * (2 * math.pi / 9)
    reach = np.hypot(radius * np.cos(turn) - 0.72 * d, radius * np.sin(turn))
    ball = np.sqrt(np.clip((0.13 * d) ** 2 - reach**2, 0, None))
    return solid(grid, distance, np.where(ball > 0, 0.36 * d + ball, height))


def circlip(grid: Grid, d: float, variant: str) -> Relief:
    ring = np.abs(disc(grid.x + 0.06 * d, grid.y, 0.82 * d)) - 0.13 * d
    gap = np.abs(grid.y) - 0.2 * d
    ring = np.maximum(ring, -np.maximum(gap, -grid.x))
    place = 0.92 * d if variant == "external" else 0.62 * d
    mirrored = np.abs(grid.y)
    ears = disc(grid.x - place, mirrored - 0.31 * d, 0.19 * d)
    holes = disc(grid.x - place, mirrored - 0.31 * d, 0.08 * d)
    distance = np.maximum(np.minimum(ring, ears), -holes)
    return solid(grid, distance, slab(distance, 0.14 * d, 0.09 * d))


def e_clip(grid: Grid, d: float, variant: str) -> Relief:
    plate = disc(grid.x, grid.y, 0.95 * d)
    hollow = disc(grid.x, grid.y, 0.66 * d)
    mouth = np.maximum(np.abs(grid.y) - 0.36 * d, -grid.x)
    tongues = polygon(grid.x + 0.72 * d, grid.y, 3, 0.2 * d) if variant == "plain" else grid.x + 0.35 * d
    side = box(grid.x - 0.1 * d, np.abs(grid.y) - 0.66 * d, 0.34 * d, 0.34 * d, 0.06 * d)
    opened = np.minimum(np.maximum(hollow, -np.minimum(tongues, side)), mouth)
    distance = np.maximum(plate, -opened)
    return solid(grid, distance, slab(distance, 0.16 * d, 0.1 * d))


def shaft_collar(grid: Grid, d: float, variant: str) -> Relief:
    distance = ring(grid, 0.5 * d, d)
    slits = np.abs(grid.y) - 0.05 * d
    distance = np.maximum(distance, -(np.maximum(slits, -grid.x) if variant == "plain" else slits))
    hole = disc(grid.x - 0.08 * d, np.abs(grid.y) - 0.75 * d, 0.13 * d)
    height = slab(distance, 0.5 * d, 0.09 * d) - 0.25 * d * (hole < 0)
    return solid(grid, distance, height + turning(grid, 0.16))


def flat_bracket(grid: Grid, d: float, variant: str) -> Relief:
    plate = box(grid.x, grid.y, 3 * d, 0.95 * d, 0.47 * d if variant == "round" else 0.1 * d)
    holes = disc(np.abs(grid.x) - 0.95 * d, grid.y, 0.22 * d)
    return _plate(grid, plate, holes, d)


def l_bracket(grid: Grid, d: float, variant: str) -> Relief:
    x, y = grid.x + 0.75 * d, grid.y + 0.75 * d
    corner = 0.12 * d if variant == "square" else 0.34 * d
    arms = np.minimum(box(x - 0.75 * d, y, 2.3 * d, 0.8 * d, corner), box(x, y - 0.75 * d, 0.8 * d, 2.3 * d, corner))
    holes = np.minimum(disc(x - 1.4 * d, y, 0.2 * d), disc(x, y - 1.4 * d, 0.2 * d))
    return _plate(grid, arms, np.minimum(holes, disc(x - 0.02 * d, y - 0.02 * d, 0.2 * d)), d)


def t_bracket(grid: Grid, d: float, variant: str) -> Relief:
    x, y = grid.x, grid.y + 0.6 * d
    corner = 0.1 * d if variant == "square" else 0.34 * d
    plate = np.minimum(box(x, y, 2.6 * d, 0.75 * d, corner), box(x, y - 0.8 * d, 0.75 * d, 2.2 * d, corner))
    holes = np.minimum(disc(np.abs(x) - 0.95 * d, y, 0.19 * d), disc(x, y - 1.5 * d, 0.19 * d))
    return _plate(grid, plate, np.minimum(holes, disc(x, y, 0.19 * d)), d)


def ring_terminal(grid: Grid, d: float, variant: str) -> Relief:
    x = grid.x + 0.7 * d
    eye = np.maximum(
        np.minimum(disc(x, grid.y, 0.62 * d), box(x - 0.6 * d, grid.y, 0.8 * d, 0.5 * d)), -disc(x, grid.y, 0.34 * d)
    )
    barrel = box(x - 1.5 * d, grid.y, 1.3 * d, 0.66 * d, 0.05 * d)
    tube = np.sqrt(np.clip((0.33 * d) ** 2 - grid.y**2, 0, None)) * (barrel < 0)
    distance = np.minimum(eye, barrel)
    height = np.maximum(slab(eye, 0.14 * d, 0.06 * d), tube * 1.3)
    sleeve = ramp(x, 0.98 * d, 1.0 * d) if variant == "sleeved" else None
    return solid(grid, distance, height, sleeve, "blue")


def parallel_key(grid: Grid, d: float, variant: str) -> Relief:
    width = 0.9 * d
    distance = box(grid.x, grid.y, 2.6 * d, width, width / 2 - 0.01 if variant == "round" else 0.06 * d)
    grinding = 0.006 * np.sin(grid.x * 13 + 6.0 * grid.roll) * np.sin(grid.x * 5.3)
    return solid(grid, distance, slab(distance, 0.6 * d, 0.1 * d) + grinding)


PLATES: dict[str, Callable[[Grid, float, str], Relief]] = {
    "spur-gear": spur_gear,
    "sprocket": sprocket,
    "pulley": pulley,
    "ball-bearing": ball_bearing,
    "circlip": circlip,
    "e-clip": e_clip,
    "shaft-collar": shaft_collar,
    "flat-bracket": flat_bracket,
    "l-bracket": l_bracket,
    "t-bracket": t_bracket,
    "ring-terminal": ring_terminal,
    "parallel-key": parallel_key,
}


def _toothed(grid: Grid, outer: float, depth: float, teeth: int, sharpness: float) -> Field:
    angle, radius = np.arctan2(grid.y, grid.x), np.hypot(grid.x, grid.y)
    tooth: Field = np.clip(np.cos(teeth * angle) * sharpness, -1, 1)
    return (radius - outer + depth / 2 - tooth * depth / 2) * 0.75


def _keyed_bore(grid: Grid, radius: float) -> Field:
    return np.minimum(disc(grid.x, grid.y, radius), box(grid.x - radius, grid.y, 0.6 * radius, 0.55 * radius))


def _plate(grid: Grid, plate: Field, holes: Field, d: float) -> Relief:
    """Sheet metal with countersunk holes."""
    distance = np.maximum(plate, -holes)
    height = slab(np.maximum(plate, distance), 0.25 * d, 0.08 * d) - 0.5 * np.clip(0.1 * d - holes, 0, None)
    return solid(grid, distance, height)
