"""One picture of the plan: which generators draw it, and its pixels and bytes.

Every picture has its own counter-based generators, keyed by (seed, class, index): it is the same picture however many
others are made, in whatever order and by however many processes. Philox: Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from sortal.data.synth.camera import expose
from sortal.data.synth.catalog import PartClass
from sortal.data.synth.fields import turned
from sortal.data.synth.marks import Mark, draw_marks, draw_nicks
from sortal.data.synth.nuts import NUTS
from sortal.data.synth.plates import PLATES
from sortal.data.synth.relief import Grid
from sortal.data.synth.rods import RODS
from sortal.data.synth.scene import Pose, draw_scene
from sortal.data.synth.sheets import SHEET, worked_sheet
from sortal.data.synth.surface import Damaged, damage

FIELD_MM = 31.0  # what the shorter side of a picture spans

_SHAPES = RODS | NUTS | PLATES
_SPECIMEN, _LYING, _FRAME, _NEAR, _MARKS = range(5)  # streams of one picture


def generator(seed: int, part: int, index: int, stream: int) -> np.random.Generator:
    """The generator of one stream of one picture. part < 2**24, index < 2**32, stream < 256."""
    return np.random.Generator(np.random.Philox(key=[seed, (part << 40) | (index << 8) | stream]))


def picture(
    part: PartClass, *, seed: int, specimen: int, frame: int, grade: str, drift: float, size_px: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: frame `frame` of the part's specimen `specimen`; size_px is (width, height).

    A sheet stands still: its frames differ by lamp and noise.
    """
    lying, moving = generator(seed, part.index, specimen, _LYING), generator(seed, part.index, frame, _FRAME)
    scene = draw_scene(lying, moving, drift=drift)
    oversample = 2 if min(size_px) <= 320 else 1
    made = generator(seed, part.index, specimen, _SPECIMEN)
    if part.kind == SHEET:
        marks = marks_of(part, seed=seed, specimen=specimen, what=grade, size_px=size_px)
        pixel_mm = FIELD_MM / (min(size_px) * oversample)
        damaged = _sheet(part, marks, size_px, oversample, made)
    else:
        grid = _grid(scene.pose, size_px, oversample, roll=float(made.random()))
        pixel_mm = grid.pixel_mm
        damaged = damage(_SHAPES[part.kind](grid, part.size_mm, part.variant), grid, grade, made)
    return expose(damaged, part.finish, scene, pixel_mm=pixel_mm, oversample=oversample, rng=moving)


def marks_of(part: PartClass, *, seed: int, specimen: int, what: str, size_px: tuple[int, int]) -> tuple[Mark, ...]:
    """The marks that `picture` draws on a sheet; see `marks.draw_marks`. size_px is (width, height)."""
    return draw_marks(what, extent_mm(size_px), generator(seed, part.index, specimen, _MARKS))


def extent_mm(size_px: tuple[int, int]) -> tuple[float, float]:
    """(width, height) of what a picture of (width, height) pixels shows."""
    return FIELD_MM * size_px[0] / min(size_px), FIELD_MM * size_px[1] / min(size_px)


def again(pixels: npt.NDArray[np.uint8], *, seed: int, part: int, frame: int) -> npt.NDArray[np.uint8]:
    """Nearly the same picture: a little brighter or darker, moved by at most a pixel along the belt, with new noise."""
    rng = generator(seed, part, frame, _NEAR)
    moved = np.roll(pixels, int(rng.integers(-1, 2)), axis=0).astype(np.float32)
    noisy = moved * float(rng.choice((0.97, 1.03))) + rng.normal(0, 1.5, pixels.shape)
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)


def jpeg(pixels: npt.NDArray[np.uint8], *, quality: int = 92) -> bytes:
    """The bytes of a JPEG without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _sheet(
    part: PartClass, marks: tuple[Mark, ...], size_px: tuple[int, int], oversample: int, made: np.random.Generator
) -> Damaged:
    pixel_mm, extent = FIELD_MM / (min(size_px) * oversample), extent_mm(size_px)
    places = [(np.arange(size * oversample, dtype=np.float32) + 0.5) * pixel_mm for size in size_px]
    x, y = np.meshgrid(places[0] - extent[0] / 2, places[1] - extent[1] / 2)
    every = (*marks, *draw_nicks(extent, made))
    return worked_sheet(part, every, x.astype(np.float32), y.astype(np.float32), pixel_mm=pixel_mm, rng=made)


def _grid(pose: Pose, size_px: tuple[int, int], oversample: int, *, roll: float) -> Grid:
    pixel_mm = FIELD_MM / (min(size_px) * oversample)
    columns, rows = size_px[0] * oversample, size_px[1] * oversample
    x = ((np.arange(columns, dtype=np.float32) - (columns - 1) / 2) * pixel_mm - pose.shift_x) / pose.scale
    y = ((np.arange(rows, dtype=np.float32) - (rows - 1) / 2) * pixel_mm - pose.shift_y) / pose.scale
    turned_x, turned_y = turned(x[None, :], y[:, None], pose.turn)
    return Grid(x=turned_x, y=turned_y, pixel_mm=pixel_mm / pose.scale, roll=roll)
