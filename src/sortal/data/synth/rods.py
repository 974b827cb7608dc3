"""Parts that lie on their side: bolts, screws, pins, studs, springs.

Every function takes the grid (axis along x), the nominal diameter `d` in mm and the variant, and returns a Relief.
The proportions follow the common standards (ISO 4014, 4762, 7046, 7045) closely enough to be recognized.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sortal.data.synth.bodies import (
    chamfered,
    dome,
    hexagon,
    join,
    knurled,
    lathe,
    ridges,
    round_wire,
    rounded,
    shank,
    spring,
    thread,
)
from sortal.data.synth.fields import box, capsule, disc
from sortal.data.synth.relief import Grid, Relief, solid


def hex_bolt(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 8 + 1.1 * d, 0.65 * d
    start = -(length + head) / 2
    rod = shank(grid, d, start + head, start + head + length, variant)
    return join(grid, hexagon(grid, start, start + head, 1.6 * d), rod)


def socket_screw(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 8 + 0.9 * d, d
    start = -(length + head) / 2
    rod = shank(grid, d, start + head, start + head + length, variant)
    return join(grid, knurled(grid, start, start + head, 0.78 * d), rod)


def countersunk_screw(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 9 + 1.0 * d, 0.55 * d
    start = -(length + head) / 2
    cone = 0.95 * d - np.clip(grid.x - start - 0.12 * d, 0, None) * (0.45 / 0.43)
    rod = shank(grid, d, start + head * 0.9, start + head + length, variant)
    return join(grid, lathe(grid, cone, start, start + head), rod)


def pan_screw(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 8 + 1.0 * d, 0.62 * d
    start = -(length + head) / 2
    rod = shank(grid, d, start + head, start + head + length, variant)
    return join(grid, dome(grid, start, start + head, 0.98 * d), rod)


def wood_screw(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 10 + 1.1 * d, 0.5 * d
    start = -(length + head) / 2
    end = start + head + length
    cone = 0.95 * d - np.clip(grid.x - start - 0.1 * d, 0, None)
    taper = np.clip((end - grid.x) / (1.3 * d), 0, 1) ** 0.7
    core = 0.33 * d * taper
    smooth = start + head + (0.35 * length if variant == "partial" else 0.05 * length)
    ridge = 0.2 * d * ridges(grid, 0.5 * d, 0.5 * d) * np.clip((grid.x - smooth) / d, 0, 1) * np.sqrt(taper)
    return join(grid, lathe(grid, cone, start, start + head), lathe(grid, core + ridge, start + head * 0.6, end))


def set_screw(grid: Grid, d: float, variant: str) -> Relief:
    half = 3 + 0.75 * d
    distance, height = shank(grid, 1.25 * d, -half, half, "full")
    if variant == "cone":
        tip = np.clip((half - grid.x) * 1.0 + 0.05 * d, 0, None)
        distance, height = lathe(grid, np.minimum(thread(grid, 1.25 * d), tip), -half, half)
    slot = box(grid.x + half, grid.y, 0.9 * d, 0.22 * d)
    return solid(grid, distance, np.where(slot < 0, height * 0.45, height))


def stud(grid: Grid, d: float, variant: str) -> Relief:
    half = 5.5 + 0.75 * d
    bare = half * (0.55 if variant == "partial" else 0.2)
    radius = np.where(np.abs(grid.x) < bare, np.float32(0.44 * d), thread(grid, d))
    return join(grid, lathe(grid, chamfered(grid, radius, -half, half, 0.12 * d), -half, half))


def dowel_pin(grid: Grid, d: float, variant: str) -> Relief:
    half = 4.5 + 0.9 * d
    radius = np.full_like(grid.x, 0.5 * d)
    if variant == "grooved":
        radius = radius - 0.1 * d * (np.abs(np.abs(grid.x) - 0.55 * half) < 0.11 * d)
    scratches = 0.004 * np.sin(grid.x * 9 + 6.0 * grid.roll)
    return join(grid, lathe(grid, chamfered(grid, radius + scratches, -half, half, 0.14 * d), -half, half))


def taper_pin(grid: Grid, d: float, variant: str) -> Relief:
    half = 5.5 + 0.7 * d
    radius = 0.48 * d - (grid.x + half) * (0.17 * d / half)
    if variant == "grooved":
        radius = radius - 0.1 * d * (np.abs(grid.x + 0.6 * half) < 0.12 * d)
    return join(grid, lathe(grid, chamfered(grid, radius, -half, half, 0.1 * d), -half, half))


def clevis_pin(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 9 + 1.1 * d, 0.35 * d
    start = -(length + head) / 2
    end = start + head + length
    radius = chamfered(grid, np.full_like(grid.x, 0.5 * d), start, end, 0.12 * d)
    relief = join(
        grid,
        lathe(grid, rounded(grid, 0.85 * d, start, start + head), start, start + head),
        lathe(grid, radius, start + head, end),
    )
    holes = [end - 0.55 * d] if variant == "plain" else [end - 0.55 * d, end - 1.7 * d]
    height = relief.height
    for hole in holes:
        height = np.where(disc(grid.x - hole, grid.y, 0.17 * d) < 0, np.float32(0), height)
    return Relief(height=height, cover=relief.cover)


def rivet(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 5 + 0.9 * d, 0.6 * d
    start = -(length + head) / 2
    radius = chamfered(grid, np.full_like(grid.x, 0.5 * d), start, start + head + length, 0.15 * d)
    if variant == "hollow":
        radius = radius + 0.16 * d * np.clip((grid.x - start - head - length * 0.72) / (length * 0.28), 0, 1)
    return join(
        grid, dome(grid, start, start + head, 0.95 * d), lathe(grid, radius, start + head, start + head + length)
    )


def thumb_screw(grid: Grid, d: float, variant: str) -> Relief:
    length, head = 6 + 1.0 * d, 0.95 * d
    start = -(length + head) / 2
    rod = shank(grid, d, start + head, start + head + length, variant)
    collar = lathe(grid, np.full_like(grid.x, 0.72 * d), start + head, start + head + 0.35 * d)
    return join(grid, knurled(grid, start, start + head, 1.0 * d), collar, rod)


def eye_bolt(grid: Grid, d: float, variant: str) -> Relief:
    ring, wire = 0.62 * d, 0.23 * d
    length = 5 + 0.8 * d
    start = -(length + 2 * (ring + wire)) / 2
    reach = np.abs(np.hypot(grid.x - start - ring - wire, grid.y) - ring)
    torus = (reach - wire, np.sqrt(np.clip(wire * wire - reach * reach, 0, None)) + 0.1 * d)
    neck = start + 2 * ring + 1.7 * wire
    return join(grid, torus, shank(grid, d, neck, neck + length, variant))


def standoff(grid: Grid, d: float, variant: str) -> Relief:
    body, stem = 6 + 0.9 * d, (0.0 if variant == "plain" else 2 + 0.7 * d)
    start = -(body + stem) / 2
    prism = hexagon(grid, start, start + body, 1.5 * d)
    if variant == "plain":
        return join(grid, prism)
    return join(grid, prism, shank(grid, 0.85 * d, start + body, start + body + stem, "full"))


def split_pin(grid: Grid, d: float, variant: str) -> Relief:
    leg, eye, wire = 11 + 0.6 * d, 0.42 * d, 0.2 * d
    start = -(leg + 2 * eye) / 2
    spread = (0.12 if variant == "closed" else 0.5) * d + wire * 0.9
    reach = np.abs(disc(grid.x - start - eye, grid.y, eye))
    root = start + 2 * eye
    upper = capsule(grid.x, grid.y, (root - 0.15 * d, 0.1 * d), (root + leg, spread), 0.0)
    lower = capsule(grid.x, grid.y, (root - 0.15 * d, -0.1 * d), (root + 0.86 * leg, -spread), 0.0)
    return join(grid, *[round_wire(one, wire) for one in (reach, upper, lower)])


def compression_spring(grid: Grid, d: float, variant: str) -> Relief:
    wire = (0.1 if variant == "light" else 0.15) * d
    return spring(grid, 0.62 * d, wire, wire * (4.4 if variant == "light" else 3.4), 6.5 + 0.55 * d)


def extension_spring(grid: Grid, d: float, variant: str) -> Relief:
    wire, radius, half = 0.1 * d, 0.42 * d, (3 + 0.4 * d) * (1.0 if variant == "long" else 0.7)
    coil = spring(grid, radius, wire, 2.15 * wire, half)
    hooks = []
    for side in (-1, 1):
        reach = np.abs(disc(grid.x - side * (half + radius * 0.75), grid.y, radius * 0.8))
        open_end = np.where(
            (side * grid.x > half + radius) & (grid.y > 0.45 * radius) & (side > 0), np.float32(9), reach
        )
        hooks.append(round_wire(open_end, wire))
    hook = join(grid, *hooks)
    cover = np.maximum(coil.cover, hook.cover)
    return Relief(height=np.maximum(coil.height, hook.height), cover=cover)


RODS: dict[str, Callable[[Grid, float, str], Relief]] = {
    "hex-bolt": hex_bolt,
    "socket-screw": socket_screw,
    "countersunk-screw": countersunk_screw,
    "pan-screw": pan_screw,
    "wood-screw": wood_screw,
    "set-screw": set_screw,
    "stud": stud,
    "dowel-pin": dowel_pin,
    "taper-pin": taper_pin,
    "clevis-pin": clevis_pin,
    "rivet": rivet,
    "thumb-screw": thumb_screw,
    "eye-bolt": eye_bolt,
    "standoff": standoff,
    "split-pin": split_pin,
    "compression-spring": compression_spring,
    "extension-spring": extension_spring,
}
