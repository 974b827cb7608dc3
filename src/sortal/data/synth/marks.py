"""Marks on sheet metal: scratches in three grades, and dents, with their places.

A mark is drawn by lot before a pixel is computed, so its box is known without drawing it. `carve` says what it does to
a surface.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from sortal.data.synth.fields import Field, capsule, ramp, turned

Point = tuple[float, float]
Span = tuple[float, float]

_SEGMENTS = 6


@dataclass(frozen=True, kw_only=True)
class Mark:
    """kind: scratch or dent; grade: of a scratch, or "". points: its line (a dent's long axis), in mm from the middle
    of the picture, y down; width and depth in mm; bare: 0..1, how much of it shines like raw metal."""

    kind: str
    grade: str
    points: tuple[Point, ...]
    width_mm: float
    depth_mm: float
    bare: float

    @property
    def length_mm(self) -> float:
        """Along its line."""
        return sum(math.dist(one, two) for one, two in zip(self.points, self.points[1:], strict=False))


@dataclass(frozen=True)
class _Sort:
    """Between which limits the marks of one sort lie."""

    kind: str
    grade: str
    _: KW_ONLY
    length_mm: Span
    width_mm: Span
    depth_mm: Span
    bare: Span


_SCRATCHES = (
    _Sort("scratch", "light", length_mm=(4, 9), width_mm=(0.26, 0.38), depth_mm=(0.05, 0.08), bare=(0.4, 0.7)),
    _Sort("scratch", "medium", length_mm=(8, 16), width_mm=(0.36, 0.56), depth_mm=(0.08, 0.14), bare=(0.5, 0.8)),
    _Sort("scratch", "severe", length_mm=(14, 27), width_mm=(0.55, 1.0), depth_mm=(0.14, 0.25), bare=(0.6, 1)),
)
_PAIR = {
    "scratch": _Sort("scratch", "", length_mm=(7, 16), width_mm=(0.7, 1.4), depth_mm=(0.1, 0.25), bare=(0, 0.4)),
    "dent": _Sort("dent", "", length_mm=(7, 16), width_mm=(2.4, 5), depth_mm=(0.3, 0.8), bare=(0, 0)),
}
_NICK = _Sort("scratch", "", length_mm=(0.6, 1.8), width_mm=(0.1, 0.2), depth_mm=(0.01, 0.03), bare=(0, 0.2))
"""What any sheet may have: too short to count as a scratch."""

SCRATCH_GRADES = tuple(sort.grade for sort in _SCRATCHES)


def draw_marks(what: str, extent_mm: Span, rng: np.random.Generator) -> tuple[Mark, ...]:
    """The marks of one sheet, the one it is labeled for first. extent_mm: (width, height) of the picture.

    what: a scratch's grade (some sheets have lesser scratches too), "scratch" or "dent" for one of the confusable
    pair, "none" for no mark.
    """
    if what in _PAIR:
        return (_draw(_PAIR[what], extent_mm, rng),)
    if what not in SCRATCH_GRADES:
        return ()
    level = SCRATCH_GRADES.index(what)
    lesser = [_SCRATCHES[int(rng.integers(level))] for _ in range(int(rng.integers(level + 1)))]
    return tuple(_draw(sort, extent_mm, rng) for sort in (_SCRATCHES[level], *lesser))


def draw_nicks(extent_mm: Span, rng: np.random.Generator) -> tuple[Mark, ...]:
    """What handling leaves on any sheet: up to four faint nicks under 2 mm, which nobody counts as scratches."""
    return tuple(_draw(_NICK, extent_mm, rng) for _ in range(int(rng.integers(5))))


def box_px(mark: Mark, extent_mm: Span, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of the picture, right and bottom exclusive, cut off at its border."""
    half = mark.width_mm / 2
    low, high = [], []
    for axis in (0, 1):
        scale, places = size_px[axis] / extent_mm[axis], [point[axis] for point in mark.points]
        low.append(math.floor((min(places) - half + extent_mm[axis] / 2) * scale))
        high.append(math.ceil((max(places) + half + extent_mm[axis] / 2) * scale))
    left, top = (min(max(0, value), size - 1) for value, size in zip(low, size_px, strict=True))
    right, bottom = (max(1, min(value, size)) for value, size in zip(high, size_px, strict=True))
    return left, top, right, bottom


def near(x: Field, y: Field, mark: Mark) -> tuple[slice, slice]:
    """(rows, columns) that hold all of a mark on a level grid of (H, W) places in mm."""
    room = 1.6 * mark.width_mm
    spans = zip(*mark.points, strict=True)
    columns, rows = (
        slice(*np.searchsorted(axis, (min(places) - room, max(places) + room)).tolist())
        for axis, places in zip((x[0], y[:, 0]), spans, strict=True)
    )
    return rows, columns


def carve(x: Field, y: Field, mark: Mark) -> tuple[Field, Field]:
    """What a mark does to a surface at the places (x, y) in mm: the depth that it takes in mm (burrs beside a scratch
    are negative), and 0..1 how much of the metal it lays bare."""
    if mark.kind == "dent":
        return mark.depth_mm * _bowl(x, y, mark), np.zeros_like(x)
    reach = _reach(x, y, mark)
    burr = np.exp(-(((reach - 0.7 * mark.width_mm) / (0.3 * mark.width_mm)) ** 2))
    depth = mark.depth_mm * (1 - ramp(reach, 0.0, mark.width_mm / 2) - 0.3 * burr)
    return depth, mark.bare * (1 - ramp(reach, 0.2 * mark.width_mm, 0.55 * mark.width_mm))


def _draw(sort: _Sort, extent_mm: Span, rng: np.random.Generator) -> Mark:
    length, angle = float(rng.uniform(*sort.length_mm)), float(rng.uniform(0, math.pi))
    middle = [float(rng.uniform(-0.36, 0.36)) * extent for extent in extent_mm]
    sag = float(rng.normal(0, 0.06)) * length if sort.kind == "scratch" else 0.0
    return Mark(
        kind=sort.kind,
        grade=sort.grade,
        points=_arc((middle[0], middle[1]), length, angle, sag),
        width_mm=float(rng.uniform(*sort.width_mm)),
        depth_mm=float(rng.uniform(*sort.depth_mm)),
        bare=float(rng.uniform(*sort.bare)),
    )


def _arc(middle: Point, length: float, angle: float, sag: float) -> tuple[Point, ...]:
    """A parabola through `middle` whose ends lie `sag` beside its tangent."""
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
    places = [2 * step / _SEGMENTS - 1 for step in range(_SEGMENTS + 1)]
    offsets = [(place * length / 2, sag * place * place) for place in places]
    return tuple(
        (middle[0] + u * along[0] + v * across[0], middle[1] + u * along[1] + v * across[1]) for u, v in offsets
    )


def _reach(x: Field, y: Field, mark: Mark) -> Field:
    """Distance to the mark's line."""
    found = capsule(x, y, mark.points[0], mark.points[1], 0.0)
    for one, two in zip(mark.points[1:], mark.points[2:], strict=False):
        found = np.minimum(found, capsule(x, y, one, two, 0.0))
    return found


def _bowl(x: Field, y: Field, mark: Mark) -> Field:
    """1 in the middle of an oval, 0 at its rim, smooth between."""
    first, last = mark.points[0], mark.points[-1]
    angle = math.atan2(last[1] - first[1], last[0] - first[0])
    u, v = turned(x - (first[0] + last[0]) / 2, y - (first[1] + last[1]) / 2, angle)
    return 1 - ramp(np.hypot(2 * u / mark.length_mm, 2 * v / mark.width_mm), 0.0, 1.0)
