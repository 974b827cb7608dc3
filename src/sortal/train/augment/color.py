"""Light and color of a varied image: brightness and contrast in one pass, hue, saturation and value in a second one.

Brightness multiplies; contrast stretches around the image's own mean gray (as torchvision's ColorJitter does, but
without clipping in between, so their order does not matter). Both happen in one multiplication and one addition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.train.augment.opencv import cv2
from sortal.train.augment.ranges import Ranges

DRAWS = 6
GRAY = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in gray (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class Tones:
    """What happens to the light and color of N images; 1 is as it was, but 0 for the hue."""

    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    hue: NDArray[np.float64]
    """Share of the color circle."""
    saturation: NDArray[np.float64]
    value: NDArray[np.float64]


def choose_tones(ranges: Ranges, u: NDArray[np.float32]) -> Tones:
    """Tones from (N, DRAWS) numbers in [0, 1)."""
    swing = u[:, 1:].astype(np.float64) * 2 - 1
    lit = u[:, 0] < ranges.light_chance
    return Tones(
        brightness=1 + np.where(lit, swing[:, 0] * ranges.brightness, 0.0),
        contrast=1 + np.where(lit, swing[:, 1] * ranges.contrast, 0.0),
        hue=swing[:, 2] * ranges.hue,
        saturation=1 + swing[:, 3] * ranges.saturation,
        value=1 + swing[:, 4] * ranges.value,
    )


def recolor(images: Pixels, tones: Tones) -> None:
    """Change (N, H, W, C) pixels in place. Hue and saturation are nothing to images of one channel."""
    colored = (tones.hue != 0) | (tones.saturation != 1) | (tones.value != 1)
    lit = (tones.brightness != 1) | (tones.contrast != 1)
    for row, image in enumerate(images):
        if colored[row] and images.shape[3] == 3:
            turn_hue(image, tones.hue[row], tones.saturation[row], tones.value[row])
        elif colored[row]:
            light(image, tones.value[row], 1.0)
        if lit[row]:
            light(image, tones.brightness[row], tones.contrast[row])


def light(image: Pixels, brightness: float, contrast: float) -> None:
    """`contrast * (x - mean) + mean`, times `brightness`, for (H, W, C) pixels in place."""
    offset = (1 - contrast) * brightness * mean_gray(image) if contrast != 1 else 0.0
    cv2.addWeighted(image, contrast * brightness, image, 0.0, offset, dst=image)


def mean_gray(image: Pixels) -> float:
    """The mean of the gray image, in samples."""
    means = cv2.mean(image)
    return float(np.dot(means[:3], GRAY)) if image.shape[2] == 3 else float(means[0])


def turn_hue(image: Pixels, hue: float, saturation: float, value: float) -> None:
    """Turn the hue by a share of the circle and multiply saturation and value, for (H, W, 3) pixels in place."""
    if image.dtype == np.uint8:
        planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)))
        planes[0] += np.uint8(round(hue * 256) % 256)  # 256 hues go round; bytes wrap by themselves
        planes[1] = cv2.convertScaleAbs(planes[1], alpha=saturation)
        planes[2] = cv2.convertScaleAbs(planes[2], alpha=value)
        cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2RGB_FULL, dst=image)
        return
    maximum = np.float32(np.iinfo(image.dtype).max)
    hsv = cv2.cvtColor(image.astype(np.float32) / maximum, cv2.COLOR_RGB2HSV)  # degrees, 0..1, 0..1
    hsv[..., 0] = (hsv[..., 0] + 360 * hue) % 360
    hsv[..., 1:] = np.minimum(hsv[..., 1:] * np.array([saturation, value], np.float32), 1)
    image[:] = np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * maximum)
