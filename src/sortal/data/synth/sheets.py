"""Sheet metal that fills the whole picture: how its surface was worked, and the dust and tarnish that are no defect.

Twelve sheets, four ways of working in three finishes. Marks on them (`marks`) are what the tasks `scratches` and
`scratch-dent` are about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sortal.data.synth.catalog import PartClass
from sortal.data.synth.fields import Field, cloud, disc, ramp
from sortal.data.synth.marks import Mark, carve, near
from sortal.data.synth.relief import Relief
from sortal.data.synth.surface import Damaged

SHEET = "sheet"
_FIRST_INDEX = 1 << 20
"""Sheets have no place in the catalog of parts; their generators' keys begin here."""


def sheet_part(number: int) -> PartClass:
    """The sheet of that number, counted round and round."""
    return _SHEETS[number % len(_SHEETS)]


def worked_sheet(
    part: PartClass, marks: Sequence[Mark], x: Field, y: Field, *, pixel_mm: float, rng: np.random.Generator
) -> Damaged:
    """A sheet with its marks. x, y: (H, W) mm from the middle, y along the belt."""
    height = _WORKED[part.variant](x, y, pixel_mm, rng) + 0.03 * cloud(rng, x.shape, (3, 3))
    height = height + _dust(x, y, rng)
    bare, uneven = np.zeros_like(x), np.clip(0.85 + 0.3 * cloud(rng, x.shape, (14, 14)), 0.3, 1.2)
    for mark in marks:
        place = near(x, y, mark)
        depth, scar = carve(x[place], y[place], mark)
        even = np.float32(1) if mark.kind == "dent" else uneven[place]
        height[place] -= even * depth
        bare[place] = np.maximum(bare[place], even * scar)
    relief = Relief(height=height, cover=np.ones_like(x), inlay=np.clip(bare, 0, 1), inlay_finish="raw")
    return Damaged(relief=relief, rust=_tarnish(x, rng), kinds=tuple(mark.kind for mark in marks))


def _brushed(x: Field, _y: Field, pixel_mm: float, rng: np.random.Generator) -> Field:
    """Streaks along the belt or across it."""
    lines, few = round(x.shape[0] / 1.6), int(rng.integers(3, 8))
    streaks = cloud(rng, x.shape, (lines, few)) if rng.random() < 0.5 else cloud(rng, x.shape, (few, lines))
    return 0.03 * pixel_mm * streaks


def _rolled(x: Field, _y: Field, pixel_mm: float, rng: np.random.Generator) -> Field:
    """Soft waves across the direction of rolling, and a fine grain."""
    waves = cloud(rng, x.shape, (int(rng.integers(18, 40)), 2))
    return 0.01 * waves + 0.02 * pixel_mm * cloud(rng, x.shape, (x.shape[0] // 2, x.shape[1] // 2))


def _blasted(x: Field, _y: Field, pixel_mm: float, rng: np.random.Generator) -> Field:
    """Even small craters."""
    return 0.055 * pixel_mm * cloud(rng, x.shape, (x.shape[0] // 3, x.shape[1] // 3))


def _milled(x: Field, y: Field, pixel_mm: float, rng: np.random.Generator) -> Field:
    """The arcs of a face mill whose middle lies beside the picture."""
    angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(25, 60)
    radius = np.hypot(x - away * math.cos(angle), y - away * math.sin(angle))
    feed = rng.uniform(0.9, 1.6)
    arcs: Field = 0.006 * np.sin(2 * math.pi * radius / feed + rng.uniform(0, 6))
    return arcs + 0.03 * pixel_mm * cloud(rng, x.shape, (x.shape[0] // 2, x.shape[1] // 2))


_WORKED: dict[str, Callable[[Field, Field, float, np.random.Generator], Field]] = {
    "brushed": _brushed,
    "rolled": _rolled,
    "blasted": _blasted,
    "milled": _milled,
}

_SHEETS = tuple(
    PartClass(
        index=_FIRST_INDEX + number,
        name=f"{SHEET}-{finish}-{worked}",
        kind=SHEET,
        size="",
        size_mm=0.0,
        finish=finish,
        variant=worked,
    )
    for number, (finish, worked) in enumerate(
        (finish, worked) for worked in _WORKED for finish in ("steel", "zinc", "brass")
    )
)
SHEET_COUNT = len(_SHEETS)


def _dust(x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Up to eight grains of dust, each 0.2 to 0.7 mm wide."""
    grains = np.zeros_like(x)
    for _ in range(int(rng.integers(9))):
        place_x, place_y = (rng.uniform(float(axis.min()), float(axis.max())) for axis in (x, y))
        radius = rng.uniform(0.1, 0.35)
        grains = np.maximum(grains, 0.4 * radius * (1 - ramp(disc(x - place_x, y - place_y, 0.0), 0.0, radius)))
    return grains


def _tarnish(x: Field, rng: np.random.Generator) -> Field | None:
    """A faint stain on one sheet in three."""
    lumps, strength = cloud(rng, x.shape, (4, 4)), rng.uniform(0.05, 0.25)
    return None if rng.random() > 0.33 else strength * ramp(lumps, 0.6, 2.2)
