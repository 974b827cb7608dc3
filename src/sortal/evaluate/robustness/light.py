"""What light does: too much, too little, flat, of another color."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.robustness.corruption import Corruption, Pixels


def _exposed(pixels: Pixels, factor: float, _: np.random.Generator) -> Pixels:
    return _levels(pixels.astype(np.float32) * np.float32(factor))


def _flattened(pixels: Pixels, factor: float, _: np.random.Generator) -> Pixels:
    mean = pixels.mean(axis=(0, 1), dtype=np.float32)
    return _levels(mean + (pixels - mean) * np.float32(factor))


def _cast(pixels: Pixels, share: float, generator: np.random.Generator) -> Pixels:
    """Warmer or colder, by chance."""
    toward_red = share if generator.random() < 0.5 else -share
    return _levels(pixels.astype(np.float32) * np.array([1 + toward_red, 1, 1 - toward_red], np.float32))


def _levels(values: NDArray[np.float32]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


BRIGHTNESS = Corruption(what="overexposed", unit="times as bright", amounts=(1.2, 1.4, 1.7, 2.1, 2.6), apply=_exposed)
DARKNESS = Corruption(what="underexposed", unit="times as bright", amounts=(0.8, 0.65, 0.5, 0.35, 0.2), apply=_exposed)
CONTRAST = Corruption(
    what="haze, flat light", unit="times the contrast", amounts=(0.8, 0.6, 0.45, 0.3, 0.2), apply=_flattened
)
COLOR_CAST = Corruption(
    what="light of another color",
    unit="red up or down by this share, blue the other way",
    amounts=(0.06, 0.12, 0.2, 0.3, 0.4),
    apply=_cast,
)
