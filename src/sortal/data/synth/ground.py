"""What lies under the part: a rubber belt, a brushed tray, a paper liner or a blue mat, and the part's shadow on it.

Linear light, at the picture's size.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from sortal.data.synth.fields import Field, blur, cloud, shift, shrink
from sortal.data.synth.relief import Relief
from sortal.data.synth.scene import Light

_SHADOW_MM = 0.55  # how far a shadow falls per mm of height


def ground(name: str, size: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> Field:
    """Linear RGB of the bare background."""
    lumps = cloud(rng, size, (6, 6))
    fine = cloud(rng, size, (size[0] // 2, size[1] // 2))
    if name == "belt":
        return _tint(0.075 * (1 + 0.10 * lumps + 0.16 * fine + _weave(size, pixel_mm, rng)), (0.95, 1.0, 0.98))
    if name == "tray":
        brushed = cloud(rng, size, (2, size[1] // 2)) + 0.6 * cloud(rng, size, (8, size[1]))
        return _tint(0.30 * (1 + 0.09 * lumps + 0.07 * brushed + 0.03 * fine), (0.98, 1.0, 1.03))
    if name == "liner":
        return _tint(0.52 * (1 + 0.05 * lumps + 0.05 * fine), (1.0, 0.99, 0.95))
    return _tint(0.13 * (1 + 0.07 * lumps + 0.10 * fine + 0.5 * _weave(size, pixel_mm, rng)), (0.45, 0.85, 1.25))


def shadow(relief: Relief, cover: Field, light: Light, pixel_mm: float) -> Field:
    """What the part leaves of the lamps' light on the belt, 0..1: a soft shadow to each side and a dark contact line.

    cover: at the picture's size, whose pixels are `pixel_mm` wide. Shadows are smooth: computed at half that size.
    """
    rows, columns = cover.shape
    half, coarse = shrink(np.pad(cover, ((0, rows % 2), (0, columns % 2)), mode="edge"), 2), 2 * pixel_mm
    tall = _tallness(relief)
    soft, fall = max(1, round((0.35 + 0.2 * tall) / coarse)), tall * _SHADOW_MM / coarse
    main = blur(shift(half, fall, fall * math.sin(light.azimuth)), soft)
    second = blur(shift(half, -fall * 0.8, 0), soft + 1)
    contact = blur(half, max(1, round(0.4 / coarse)))
    left = np.clip(1 - 0.5 * main - 0.3 * light.fill * second - 0.3 * contact, 0.12, 1).astype(np.float32)
    grown = Image.fromarray(left).resize((2 * left.shape[1], 2 * left.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(grown, dtype=np.float32)[:rows, :columns]


def lamplight(size: tuple[int, int], light: Light) -> Field:
    """The lamp's fall-off across the belt, tilted a little by its turn."""
    column = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :]
    row = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    return light.power * (1 + 0.12 * math.sin(3 * light.azimuth) * column + 0.04 * (light.lean - 0.45) * row)


def _tallness(relief: Relief) -> float:
    heights = relief.height[::4, ::4][relief.cover[::4, ::4] > 0.5]
    return float(np.percentile(heights, 90)) if heights.size else 0.0


def _weave(size: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> Field:
    """The fabric of a belt, about 1.2 mm wide, passing at any phase."""
    y: Field = np.arange(size[0], dtype=np.float32)[:, None] * (pixel_mm * 2 * math.pi / 1.25) + float(
        rng.uniform(0, 6)
    )
    x: Field = np.arange(size[1], dtype=np.float32)[None, :] * (pixel_mm * 2 * math.pi / 1.25) + float(
        rng.uniform(0, 6)
    )
    woven: Field = np.sin(x) * np.sin(y)
    return 0.14 * woven


def _tint(gray: Field, color: tuple[float, float, float]) -> Field:
    colored: Field = gray[..., None] * np.array(color, np.float32)
    return colored
