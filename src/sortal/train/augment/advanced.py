"""What hides or spoils parts of a varied image: blur or noise, small holes, one erased rectangle.

Blur and noise stand for each other (never both on an image). Holes and rectangles are filled with the mean color,
which is zero once the image is normalized. Coarse dropout: DeVries and Taylor 2017; erasing: Zhong et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.train.augment.opencv import cv2
from sortal.train.augment.ranges import Ranges

_FULL_PX = 224
"""Sides from which holes have their full size."""
_TABLE = 1 << 21
ERASED_AREA = (0.02, 0.2)
"""Smallest and largest share of the image that is erased."""
ERASED_ASPECT = 10 / 3
"""Largest ratio of the sides of an erased rectangle."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is spoiled in N images."""

    blurred: NDArray[np.bool_]
    noisy: NDArray[np.bool_]
    place: NDArray[np.float32]
    """(N,) where in the table of noise an image's begins, in 0..1."""
    boxes: NDArray[np.int64]
    """(N, M, 4) top, bottom, left and right of rectangles to fill; empty ones have no height."""


def draws(ranges: Ranges) -> int:
    """Random numbers that `choose_damage` needs for an image."""
    return 9 + 4 * ranges.holes


def choose_damage(ranges: Ranges, u: NDArray[np.float32], size: tuple[int, int]) -> Damage:
    """Damage to images of `size` (height, width) from (N, draws) numbers in [0, 1)."""
    both = max(1.0, ranges.blur + ranges.noise)
    blurred = u[:, 0] < ranges.blur / both
    noisy = (u[:, 0] < (ranges.blur + ranges.noise) / both) & ~blurred
    count = np.where(u[:, 2] < ranges.holes_chance, 1 + np.floor(u[:, 3] * ranges.holes), 0)
    holes = _holes(ranges, u[:, 9:].reshape(len(u), ranges.holes, 4), size)
    holes[np.arange(ranges.holes) >= count[:, None]] = 0
    erased = rectangles(u[:, 5:9], size)
    erased[u[:, 4] >= ranges.erase] = 0
    return Damage(blurred=blurred, noisy=noisy, place=u[:, 1], boxes=np.concatenate([holes, erased[:, None]], axis=1))


def spoil(images: Pixels, damage: Damage, *, noise_std: float, fill: tuple[float, ...]) -> None:
    """Change (N, H, W, C) pixels in place; `fill` is a sample for each channel, `noise_std` on the scale 0..1."""
    for row, image in enumerate(images):
        if damage.blurred[row]:
            image[:] = cv2.blur(image, (3, 3)).reshape(image.shape)
        elif damage.noisy[row]:
            add_noise(image, noise_std, float(damage.place[row]))
        for top, bottom, left, right in damage.boxes[row]:
            if bottom > top:
                image[top:bottom, left:right] = fill


def add_noise(image: Pixels, std: float, place: float) -> None:
    """Gaussian noise in place, clipped to the range of samples; `place` in 0..1 says which.

    Drawing numbers for every pixel costs 15 times as much as all the rest, so they are cut from a table.
    """
    maximum = int(np.iinfo(image.dtype).max)
    table = _noise(std * maximum, max(_TABLE, 1 << (2 * image.size - 1).bit_length()))
    start = int(place * (len(table) - image.size))
    kind = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
    cv2.add(image, table[start : start + image.size].reshape(image.shape), dst=image, dtype=kind)


@lru_cache(maxsize=4)
def _noise(std: float, length: int) -> NDArray[np.int32]:
    random = np.random.default_rng(np.random.PCG64(0))
    found: NDArray[np.int32] = np.rint(random.standard_normal(length) * std).astype(np.int32)
    found.setflags(write=False)
    return found


def _holes(ranges: Ranges, u: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.int64]:
    """(N, holes, 4) rectangles with sides of 1 to the largest allowed, wholly inside."""
    largest = max(1, min(ranges.hole_px, round(ranges.hole_px * min(size) / _FULL_PX), *size))
    sides = 1 + np.floor(u[..., :2] * largest).astype(np.int64)
    starts = np.floor(u[..., 2:] * (np.array(size) - sides + 1)).astype(np.int64)
    return np.stack(
        [starts[..., 0], starts[..., 0] + sides[..., 0], starts[..., 1], starts[..., 1] + sides[..., 1]], -1
    )


def rectangles(
    u: NDArray[np.floating],
    size: tuple[int, int],
    *,
    area: tuple[float, float] = ERASED_AREA,
    aspect: float = ERASED_ASPECT,
) -> NDArray[np.int64]:
    """(N, 4) top, bottom, left, right of rectangles to erase, from (N, 4) numbers in [0, 1): area, aspect, place.

    Wholly inside; the share of the image is within `area`, up to rounding and unless a side had to be cut to its own.
    """
    shares = area[0] + (area[1] - area[0]) * u[:, 0].astype(np.float64)
    ratios = np.exp((u[:, 1].astype(np.float64) * 2 - 1) * np.log(aspect))
    pixels = shares * size[0] * size[1]
    sides = np.stack([np.sqrt(pixels * ratios), np.sqrt(pixels / ratios)], axis=1)
    whole = np.clip(np.rint(sides), 1, np.array(size)).astype(np.int64)
    starts = np.floor(u[:, 2:4].astype(np.float64) * (np.array(size) - whole + 1)).astype(np.int64)
    ends = starts + whole
    return np.stack([starts[:, 0], ends[:, 0], starts[:, 1], ends[:, 1]], axis=1)
