"""The line camera: from a part, its lamps and its belt to 8-bit pixels.

The camera looks straight down and is telecentric, so a size in mm is a size in pixels. Parts are computed in linear
light on a finer grid and averaged down (`metal`), set on their background (`ground`), then blurred by motion and lens,
given noise and a gamma here.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sortal.data.synth.fields import Field, shrink
from sortal.data.synth.ground import ground, lamplight, shadow
from sortal.data.synth.metal import shade
from sortal.data.synth.scene import Scene
from sortal.data.synth.surface import Damaged


def expose(
    part: Damaged, finish: str, scene: Scene, *, pixel_mm: float, oversample: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """The picture, (H, W, 3) uint8. `pixel_mm` is the side of a pixel of the fine grid, `oversample` how many of them
    make one pixel of the picture."""
    relief = part.relief
    size = (relief.height.shape[0] // oversample, relief.height.shape[1] // oversample)
    cover = shrink(relief.cover, oversample)
    below = ground(scene.background, size, pixel_mm * oversample, rng) * lamplight(size, scene.light)[..., None]
    below = below * shadow(relief, cover, scene.light, pixel_mm * oversample)[..., None]
    metal = shade(part, finish, scene.light, pixel_mm=pixel_mm, oversample=oversample, rng=rng)
    return _sense(below * (1 - cover[..., None]) + metal, scene, rng)


def _sense(linear: Field, scene: Scene, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Lens fall-off, blur, the columns' fixed pattern, shot and read noise, gamma."""
    sensor = scene.sensor
    height, width = linear.shape[:2]
    column = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    row = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    falloff = 1 - sensor.vignette * (0.75 * column**2 + 0.25 * row**2)
    streaks = 1 + sensor.streaks * rng.standard_normal((1, width), dtype=np.float32)
    flicker = 1 + 0.4 * sensor.streaks * rng.standard_normal((height, 1), dtype=np.float32)
    warm = np.array([1 + 0.07 * scene.light.warmth, 1, 1 - 0.09 * scene.light.warmth], np.float32)
    seen = _smear(linear, sensor.blur_px) * (falloff * streaks * flicker * (1 - sensor.darkness))[..., None] * warm
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    seen = seen + sensor.gain * np.sqrt(0.00022 * np.clip(seen, 0, None) + 0.000012) * noise
    curve: Field = np.clip(seen, 0, 1) ** np.float32(1 / 2.2)
    return (curve * 255 + 0.5).astype(np.uint8)


def _smear(linear: Field, sigma_px: float) -> Field:
    """The belt's motion and, 0.6 times as strong across the belt, the lens: three-tap blurs of that variance."""
    for axis, sigma in ((0, sigma_px), (1, 0.6 * sigma_px)):
        passes = math.ceil(sigma * sigma / 0.6)
        side = sigma * sigma / (2 * passes)
        for _ in range(passes):
            linear = _three_taps(linear, side, axis)
    return linear


def _three_taps(linear: Field, side: float, axis: int) -> Field:
    size = linear.shape[axis]
    before = linear.take(np.maximum(np.arange(size) - 1, 0), axis)
    after = linear.take(np.minimum(np.arange(size) + 1, size - 1), axis)
    blurred: Field = (1 - 2 * side) * linear + side * (before + after)
    return blurred
