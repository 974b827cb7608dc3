"""What a camera and a channel do: out of focus, too little light for the sensor, too strong a compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from sortal.evaluate.robustness.corruption import Corruption, Pixels


def _blurred(pixels: Pixels, percent: float, _: np.random.Generator) -> Pixels:
    radius = percent / 100 * min(pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _noisy(pixels: Pixels, levels: float, generator: np.random.Generator) -> Pixels:
    drawn = generator.standard_normal(pixels.shape, np.float32) * np.float32(levels)
    return np.clip(np.rint(pixels + drawn), 0, 255).astype(np.uint8)


def _compressed(pixels: Pixels, quality: float, _: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(quality))
    return np.asarray(Image.open(buffer).convert("RGB"))


GAUSSIAN_BLUR = Corruption(
    what="out of focus", unit="sigma, % of the shorter side", amounts=(0.3, 0.6, 1.0, 1.6, 2.5), apply=_blurred
)
GAUSSIAN_NOISE = Corruption(
    what="noise of a sensor", unit="deviation, levels of 255", amounts=(4, 8, 14, 24, 40), apply=_noisy
)
JPEG = Corruption(what="compression", unit="JPEG quality", amounts=(60, 40, 25, 15, 8), apply=_compressed)
