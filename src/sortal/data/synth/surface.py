"""What a part is made of and what happened to it: finishes, and surface defects in three grades.

A defect changes the relief (scratch, dent, pits, a chipped edge) or stains it (rust, tarnish); how bad it is decides
how many, how deep and how large. `camera` turns the result into light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sortal.data.synth.fields import Field, blur, capsule, cloud, disc, ramp
from sortal.data.synth.relief import Grid, Relief

GRADES = ("none", "light", "medium", "severe")
DEFECTS = ("scratch", "dent", "pits", "rust", "chip")


@dataclass(frozen=True, kw_only=True)
class Finish:
    """mirror, matte: linear RGB of what is reflected sharply and diffusely; rough: width of highlights, 0.05..0.6;
    grain: unevenness of the surface, in units of slope."""

    mirror: tuple[float, float, float]
    matte: tuple[float, float, float]
    rough: float
    grain: float


FINISHES: dict[str, Finish] = {
    "steel": Finish(mirror=(0.60, 0.59, 0.57), matte=(0.10, 0.10, 0.10), rough=0.20, grain=0.035),
    "zinc": Finish(mirror=(0.62, 0.68, 0.74), matte=(0.14, 0.155, 0.17), rough=0.26, grain=0.05),
    "yellow": Finish(mirror=(0.70, 0.58, 0.30), matte=(0.17, 0.13, 0.06), rough=0.28, grain=0.05),
    "brass": Finish(mirror=(0.80, 0.57, 0.24), matte=(0.16, 0.10, 0.035), rough=0.17, grain=0.03),
    "copper": Finish(mirror=(0.80, 0.42, 0.28), matte=(0.17, 0.075, 0.045), rough=0.20, grain=0.03),
    "black": Finish(mirror=(0.085, 0.085, 0.095), matte=(0.022, 0.022, 0.025), rough=0.34, grain=0.05),
    "nylon": Finish(mirror=(0.05, 0.05, 0.05), matte=(0.62, 0.62, 0.58), rough=0.45, grain=0.01),
    "blue": Finish(mirror=(0.05, 0.05, 0.06), matte=(0.03, 0.12, 0.42), rough=0.40, grain=0.01),
    "rubber": Finish(mirror=(0.03, 0.03, 0.03), matte=(0.025, 0.025, 0.027), rough=0.50, grain=0.02),
    "raw": Finish(mirror=(0.62, 0.61, 0.60), matte=(0.34, 0.34, 0.335), rough=0.55, grain=0.10),
    "rust": Finish(mirror=(0.02, 0.015, 0.01), matte=(0.23, 0.085, 0.03), rough=0.60, grain=0.12),
}


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A relief after its defects. rust: (H, W) 0..1 or None; kinds: which defects it has."""

    relief: Relief
    rust: Field | None
    kinds: tuple[str, ...]


def damage(relief: Relief, grid: Grid, grade: str, rng: np.random.Generator) -> Damaged:
    """Give the part the defects of `grade`: one faint for light, two for medium, three heavy for severe."""
    level = GRADES.index(grade)
    kinds = tuple(str(kind) for kind in rng.permutation(DEFECTS)[:level])
    damaged = Damaged(relief=relief, rust=None, kinds=kinds)
    for kind in kinds:
        damaged = _DAMAGE[kind](damaged, grid, level, _spot(relief, grid, rng), rng)
    return damaged


def _scratch(part: Damaged, grid: Grid, level: int, spot: tuple[float, float], rng: np.random.Generator) -> Damaged:
    groove = np.zeros_like(grid.x)
    for _ in range(2 * level - 1):
        angle, length = rng.uniform(0, math.pi), rng.uniform(1.0, 1.8) * (1 + level)
        start = (spot[0] + rng.normal(0, 0.6), spot[1] + rng.normal(0, 0.6))
        end = (start[0] + length * math.cos(angle), start[1] + length * math.sin(angle))
        groove = np.maximum(groove, 1 - ramp(capsule(grid.x, grid.y, start, end, 0.0), 0.0, 0.10 + 0.05 * level))
    return _lower(part, groove * (0.05 + 0.07 * level))


def _dent(part: Damaged, grid: Grid, level: int, spot: tuple[float, float], rng: np.random.Generator) -> Damaged:
    radius = rng.uniform(0.35, 0.5) * (1 + 0.6 * level)
    hollow = 1 - ramp(disc(grid.x - spot[0], grid.y - spot[1], 0.0), 0.0, radius)
    return _lower(part, hollow * radius * (0.2 + 0.13 * level))


def _pits(part: Damaged, grid: Grid, level: int, spot: tuple[float, float], rng: np.random.Generator) -> Damaged:
    pits = np.zeros_like(grid.x)
    for _ in range(3 + 5 * level):
        x, y = rng.normal(spot[0], 0.5 + 0.7 * level), rng.normal(spot[1], 0.5 + 0.7 * level)
        pits = np.maximum(pits, 1 - ramp(disc(grid.x - x, grid.y - y, 0.0), 0.05, rng.uniform(0.2, 0.3 + 0.06 * level)))
    return _lower(part, pits * (0.08 + 0.08 * level))


def _rust(part: Damaged, grid: Grid, level: int, spot: tuple[float, float], rng: np.random.Generator) -> Damaged:
    height, width = grid.x.shape
    lumps = cloud(rng, (height, width), (14, 14)) + 0.6 * cloud(rng, (height, width), (48, 48))
    reach = disc(grid.x - spot[0], grid.y - spot[1], 0.0)
    stain = ramp(0.6 * lumps + 1.1 - reach / (0.7 + 1.1 * level), 0.0, 1.0) * (0.45 + 0.18 * level)
    relief = replace(part.relief, height=part.relief.height + 0.03 * stain * lumps)
    return replace(part, relief=relief, rust=stain if part.rust is None else np.maximum(part.rust, stain))


def _chip(part: Damaged, grid: Grid, level: int, spot: tuple[float, float], rng: np.random.Generator) -> Damaged:
    """A piece broken out of the outline next to `spot`."""
    x, y = _edge(part.relief, grid, spot)
    ragged = 0.18 * cloud(rng, (grid.x.shape[0], grid.x.shape[1]), (40, 40))
    bite = disc(grid.x - x, grid.y - y, 0.3 + 0.38 * level) + ragged
    cover = np.minimum(part.relief.cover, np.clip(0.5 + bite / grid.pixel_mm, 0, 1))
    height = part.relief.height * ramp(bite, -0.1, 0.35)
    return replace(part, relief=replace(part.relief, cover=cover, height=height))


_DAMAGE = {"scratch": _scratch, "dent": _dent, "pits": _pits, "rust": _rust, "chip": _chip}


def _lower(part: Damaged, depth: Field) -> Damaged:
    return replace(part, relief=replace(part.relief, height=part.relief.height - depth * part.relief.cover))


def _spot(relief: Relief, grid: Grid, rng: np.random.Generator) -> tuple[float, float]:
    """A place on the part, in mm."""
    inside = np.flatnonzero(relief.cover > 0.9)
    if inside.size == 0:
        return 0.0, 0.0
    chosen = int(inside[int(rng.integers(inside.size))])
    return float(grid.x.flat[chosen]), float(grid.y.flat[chosen])


def _edge(relief: Relief, grid: Grid, spot: tuple[float, float]) -> tuple[float, float]:
    """The place on the outline nearest to `spot`."""
    softened = blur(relief.cover, 2)
    rim = np.flatnonzero((softened > 0.35) & (softened < 0.65))
    if rim.size == 0:
        return spot
    away = (grid.x.flat[rim] - spot[0]) ** 2 + (grid.y.flat[rim] - spot[1]) ** 2
    nearest = int(rim[int(np.argmin(away))])
    return float(grid.x.flat[nearest]), float(grid.y.flat[nearest])
