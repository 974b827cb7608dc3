"""Light and camera: from a relief on a belt to the pixels of a line camera.

The camera looks straight down and is telecentric, so a size in mm is a size in pixels. Two bar lamps span the belt;
what a point of metal shows is the lamp, the dark room or the belt that its slope mirrors into the camera. Computed in
linear light on a finer grid, averaged down, then noise and gamma. `scene` says which lamp and which belt.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sortal.data.synth.fields import Field, blur, cloud, ramp, shift, shrink
from sortal.data.synth.relief import Relief
from sortal.data.synth.scene import Light, Scene
from sortal.data.synth.surface import FINISHES, Damaged, Finish

_SHADOW_MM = 0.55  # how far a shadow falls per mm of height


def expose(
    part: Damaged, finish: str, scene: Scene, *, pixel_mm: float, oversample: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """The picture, (H, W, 3) uint8. `pixel_mm` is the side of a pixel of the fine grid, `oversample` how many of them
    make one pixel of the picture."""
    relief = part.relief
    size = (relief.height.shape[0] // oversample, relief.height.shape[1] // oversample)
    cover = shrink(relief.cover, oversample)
    ground = _ground(scene.background, size, pixel_mm * oversample, rng) * _lit(size, scene.light)[..., None]
    ground = ground * _shadow(relief, cover, scene.light, pixel_mm, oversample)[..., None]
    metal = _metal(part, FINISHES[finish], scene, pixel_mm, oversample, rng)
    return _sense(ground * (1 - cover[..., None]) + metal, scene, rng)


def _metal(
    part: Damaged, finish: Finish, scene: Scene, pixel_mm: float, oversample: int, rng: np.random.Generator
) -> Field:
    """Linear RGB of the part, already multiplied by its cover, at the picture's size."""
    relief = part.relief
    grain = cloud(rng, relief.height.shape, (relief.height.shape[0] // 3, relief.height.shape[1] // 3))
    slope_y, slope_x = _slopes(relief.height, pixel_mm)
    slope_y += 0.7 * finish.grain * grain
    mirror, matte = _reflect(slope_x, slope_y, scene.light, finish.rough)
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
        color = shiny[..., None] * np.array(finish.mirror, np.float32) + dull[..., None] * np.array(
            finish.matte, np.float32
        )
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


def _shadow(relief: Relief, cover: Field, light: Light, pixel_mm: float, oversample: int) -> Field:
    """What the part leaves of the lamps' light on the belt: a soft shadow along the belt and a dark contact line."""
    coarse = pixel_mm * oversample
    tall = float(np.percentile(relief.height[::4, ::4][relief.cover[::4, ::4] > 0.5], 90)) if cover.any() else 0.0
    soft = max(1, round((0.35 + 0.2 * tall) / coarse))
    fall = tall * _SHADOW_MM / coarse
    main = blur(shift(cover, fall, fall * math.sin(light.azimuth)), soft)
    second = blur(shift(cover, -fall * 0.8, 0), soft + 1)
    contact = blur(cover, max(1, round(0.4 / coarse)))
    left: Field = np.clip(1 - 0.5 * main - 0.5 * light.fill * 0.6 * second - 0.3 * contact, 0.12, 1)
    return left


def _lit(size: tuple[int, int], light: Light) -> Field:
    """The lamp's fall-off across the belt, tilted a little by its turn."""
    column = np.linspace(-1, 1, size[1], dtype=np.float32)[None, :]
    row = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    return light.power * (1 + 0.12 * math.sin(3 * light.azimuth) * column + 0.04 * (light.lean - 0.45) * row)


def _ground(name: str, size: tuple[int, int], pixel_mm: float, rng: np.random.Generator) -> Field:
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
