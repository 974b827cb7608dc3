"""How metal looks under two bar lamps across the belt.

What a point of metal shows is the lamp, the dark room or the belt that its slope mirrors up into the camera; matte
surfaces scatter a little besides. Linear light; `scene` says where the lamps are, `surface` what the part is made of.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sortal.data.synth.fields import Field, blur, cloud, ramp, shrink
from sortal.data.synth.relief import Relief
from sortal.data.synth.scene import Light
from sortal.data.synth.surface import FINISHES, Damaged, Finish


def shade(
    part: Damaged, finish: str, light: Light, *, pixel_mm: float, oversample: int, rng: np.random.Generator
) -> Field:
    """Linear RGB of the part, already multiplied by its cover, (H / oversample, W / oversample, 3)."""
    height, width = part.relief.height.shape
    rows, columns = (_bounds(part.relief.cover, axis, oversample) for axis in (1, 0))
    seen = np.zeros((height // oversample, width // oversample, 3), np.float32)
    inside = _metal(_cropped(part, rows, columns), FINISHES[finish], light, pixel_mm, oversample, rng)
    place = tuple(slice(one.start // oversample, one.stop // oversample) for one in (rows, columns))
    seen[place] = inside
    return seen


def _bounds(cover: Field, axis: int, oversample: int) -> slice:
    """The lines that the part touches and a small margin, in whole pixels of the picture."""
    touched = np.flatnonzero(cover.any(axis=axis))
    last = cover.shape[1 - axis] // oversample * oversample
    if touched.size == 0:
        return slice(0, last)
    start = max(0, int(touched[0]) - 4) // oversample * oversample
    return slice(start, min(last, (int(touched[-1]) + 5 + oversample) // oversample * oversample))


def _cropped(part: Damaged, rows: slice, columns: slice) -> Damaged:
    def cut(field: Field | None) -> Field | None:
        return None if field is None else field[rows, columns]

    old = part.relief
    relief = replace(old, height=old.height[rows, columns], cover=old.cover[rows, columns], inlay=cut(old.inlay))
    return replace(part, relief=relief, rust=cut(part.rust))


def _metal(
    part: Damaged, finish: Finish, light: Light, pixel_mm: float, oversample: int, rng: np.random.Generator
) -> Field:
    relief = part.relief
    grain = cloud(rng, relief.height.shape, (relief.height.shape[0] // 3, relief.height.shape[1] // 3))
    slope_y, slope_x = _slopes(relief.height, pixel_mm)
    slope_y += 0.7 * finish.grain * grain
    mirror, matte = _reflect(slope_x, slope_y, light, finish.rough)
    dark = _crevices(relief, pixel_mm)
    layers = [(np.ones_like(dark), finish)]
    if relief.inlay is not None:
        layers.append((relief.inlay, FINISHES[relief.inlay_finish]))
    if part.rust is not None:
        layers.append((part.rust, FINISHES["rust"]))
    return _paint(layers, mirror * dark * relief.cover, matte * dark * relief.cover, oversample)


def _paint(layers: list[tuple[Field, Finish]], mirror: Field, matte: Field, oversample: int) -> Field:
    """Sum of the layers, each hiding the ones before it by its weight."""
    total: Field | None = None
    left = np.ones_like(mirror)
    for weight, finish in reversed(layers):
        share = left * weight
        left = left - share
        shiny, dull = shrink(mirror * share, oversample), shrink(matte * share, oversample)
        color = shiny[..., None] * _rgb(finish.mirror) + dull[..., None] * _rgb(finish.matte)
        total = color if total is None else total + color
    if total is None:
        raise ValueError("no layers")
    return total


def _slopes(height: Field, pixel_mm: float) -> tuple[Field, Field]:
    rows, columns = np.zeros_like(height), np.zeros_like(height)
    rows[1:-1] = (height[2:] - height[:-2]) / (2 * pixel_mm)
    columns[:, 1:-1] = (height[:, 2:] - height[:, :-2]) / (2 * pixel_mm)
    return rows, columns


def _reflect(slope_x: Field, slope_y: Field, light: Light, rough: float) -> tuple[Field, Field]:
    """How much lamp each point mirrors, and how much it scatters. Slopes are dz/dx, dz/dy; y runs along the belt."""
    up = 1 / (1 + slope_x * slope_x + slope_y * slope_y)  # squared z of the unit normal
    ray_x, ray_y, ray_z = -2 * up * slope_x, -2 * up * slope_y, 2 * up - 1
    across = ray_y * math.cos(light.azimuth) + ray_x * math.sin(light.azimuth)
    wide = 0.10 + 0.8 * rough
    main = np.exp(-(((across + light.lean) / wide) ** 2))
    second = np.exp(-(((across - light.lean - 0.15) / (wide * 1.2)) ** 2))
    ring = np.exp(-((across / (0.22 + rough)) ** 2) - (ray_x / (0.5 + rough)) ** 2)
    sky = ramp(ray_z, -0.5, 0.4)
    mirror = sky * (0.13 + (1.7 - 1.6 * rough) * main + light.fill * second + 0.32 * ring) + 0.06
    tilt = np.sqrt(up)
    matte = np.clip(tilt * (0.85 + 0.45 * light.lean * slope_y), 0.05, 1.6)
    return mirror * light.power, matte * light.power


def _crevices(relief: Relief, pixel_mm: float) -> Field:
    """Grooves, roots of threads and inner corners get less light."""
    coarse = blur(relief.height[::2, ::2], max(1, round(0.28 / pixel_mm)))
    around = coarse.repeat(2, axis=0).repeat(2, axis=1)[: relief.height.shape[0], : relief.height.shape[1]]
    return np.clip(1 - 0.75 * np.clip(around - relief.height, 0, 1.2), 0.25, 1)


def _rgb(color: tuple[float, float, float]) -> Field:
    return np.array(color, np.float32)
