"""What handling does: turned, nearer or farther than in training, partly covered."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sortal.evaluate.robustness.corruption import Corruption, Pixels

_GREY = 127


def _turned(pixels: Pixels, degrees: float, generator: np.random.Generator) -> Pixels:
    """To either side by chance; what comes in from outside is the picture's own mirror image."""
    signed = degrees if generator.random() < 0.5 else -degrees
    wide = _mirrored_around(pixels)
    turned = np.asarray(Image.fromarray(wide).rotate(signed, Image.Resampling.BICUBIC))
    return _center(turned, *pixels.shape[:2])


def _nearer(pixels: Pixels, factor: float, _: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    cut = _center(pixels, max(1, round(height / factor)), max(1, round(width / factor)))
    return np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.BICUBIC))


def _farther(pixels: Pixels, factor: float, _: np.random.Generator) -> Pixels:
    """What comes in from outside is the picture's own mirror image."""
    height, width = pixels.shape[:2]
    wide = _center(_mirrored_around(pixels), round(height / factor), round(width / factor))
    return np.asarray(Image.fromarray(wide).resize((width, height), Image.Resampling.BICUBIC))


def _covered(pixels: Pixels, percent: float, generator: np.random.Generator) -> Pixels:
    """A grey rectangle in the picture's proportions, somewhere inside."""
    side = (percent / 100) ** 0.5
    height, width = (max(1, round(length * side)) for length in pixels.shape[:2])
    top = int(generator.integers(0, pixels.shape[0] - height + 1))
    left = int(generator.integers(0, pixels.shape[1] - width + 1))
    covered = pixels.copy()
    covered[top : top + height, left : left + width] = _GREY
    return covered


def _mirrored_around(pixels: Pixels) -> Pixels:
    """Half as much again on every side."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((height // 2 + 1,) * 2, (width // 2 + 1,) * 2, (0, 0)), mode="symmetric")


def _center(pixels: Pixels, height: int, width: int) -> Pixels:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


ROTATION = Corruption(what="turned", unit="degrees to either side", amounts=(5, 10, 15, 25, 40), apply=_turned)
ZOOM_IN = Corruption(what="nearer", unit="times as large", amounts=(1.1, 1.2, 1.35, 1.6, 2.0), apply=_nearer)
ZOOM_OUT = Corruption(what="farther", unit="times as large", amounts=(0.9, 0.8, 0.7, 0.6, 0.5), apply=_farther)
OCCLUSION = Corruption(what="covered", unit="% of the picture", amounts=(2, 5, 10, 18, 30), apply=_covered)
