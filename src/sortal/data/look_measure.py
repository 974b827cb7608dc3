"""Numbers, perceptual hash and tiny copy of one small picture: a record of fixed size, as the cache keeps it.

Shapes: (h, w) of the picture, about 256 px long; everything is computed on it or on its copy of 64 x 64 px.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SQUARE_PX = 64
TINY_PX = 16
HASH_BITS = 256
MEASURES = ("brightness", "dark", "light", "contrast", "sharpness", "entropy", "chroma", "border", "filled")
RECORD = np.dtype(
    [
        *((name, "<f4") for name in MEASURES),
        ("height", "<u4"),
        ("width", "<u4"),
        ("hash", "u1", (HASH_BITS // 8,)),
        ("tiny", "u1", (TINY_PX, TINY_PX, 3)),
    ]
)
"""`height` and `width` are those of the whole upright image."""

_DARK_SHARE, _LIGHT_SHARE = 0.99, 0.05
_BLUR_PX = 4
"""To each side."""
_MIDDLE = 128
_EVEN = 8
"""Levels (of 255) by which a uniform border may vary: JPEG rings as much around what it frames."""


def measure(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The bytes of a RECORD for an RGB picture (h, w) of an image whose (height, width) is `size`."""
    grey = picture.convert("L")
    square = picture.resize((SQUARE_PX, SQUARE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    record = np.zeros(1, RECORD)
    brightness, dark, light, contrast, entropy = _levels(grey)
    record["brightness"], record["dark"], record["light"] = brightness, dark, light
    record["contrast"], record["entropy"] = contrast, entropy
    record["sharpness"] = sharpness(grey)
    record["chroma"] = _chroma(square)
    record["border"] = border_share(np.asarray(grey))
    record["filled"] = filled_share(np.asarray(picture))
    record["height"], record["width"] = size
    record["hash"] = perceptual_hash(np.asarray(square.convert("L")))
    record["tiny"] = np.asarray(square.reduce(SQUARE_PX // TINY_PX))
    return record.view(np.uint8)


def _levels(grey: Image.Image) -> tuple[float, float, float, float, float]:
    """Mean, 99th percentile, 5th percentile, standard deviation and entropy of the luma, each of 0..1."""
    counts = np.asarray(grey.histogram(), dtype=np.float64)
    shares = counts / counts.sum()
    levels = np.arange(256) / 255
    below = np.cumsum(shares) + 1e-9
    mean = float(shares @ levels)
    spread = float(np.sqrt(max(0.0, shares @ (levels - mean) ** 2)))
    there = shares[shares > 0]
    entropy = max(0.0, float(-(there @ np.log2(there)))) / 8
    dark, light = (float(levels[np.searchsorted(below, share)]) for share in (_DARK_SHARE, _LIGHT_SHARE))
    return mean, dark, light, spread, entropy


def _chroma(image: Image.Image) -> float:
    """Mean of the largest less the smallest of the three channels, 0..1."""
    red, green, blue = (np.asarray(band) for band in image.split())
    largest, smallest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return float((largest - smallest).mean()) / 255


def sharpness(grey: Image.Image) -> float:
    """0 (a blur of nine pixels more changes nothing) to 1, of the softer of both directions, whatever the contrast.

    The share of the steps between neighbors that such a blur removes: Crete, Dolmiere, Ladret and Nicolas, "The blur
    effect: perception and estimation with a new no-reference perceptual blur metric" (2007), counted the other way.
    """
    return min(_removed(grey, axis) for axis in (0, 1))


def _removed(grey: Image.Image, axis: int) -> float:
    blurred = grey.filter(ImageFilter.BoxBlur((0, _BLUR_PX) if axis == 0 else (_BLUR_PX, 0)))
    before, after = (np.abs(np.diff(np.asarray(image).astype(np.int16), axis=axis)) for image in (grey, blurred))
    total = int(before.sum(dtype=np.int64))
    return int(np.maximum(before - after, 0).sum(dtype=np.int64)) / total if total else 0.0


def border_share(grey: NDArray[np.uint8]) -> float:
    """Share of the area that uniform rows and columns along the four sides take; 1 for a blank picture."""
    rows = np.flatnonzero(_uneven(grey))
    columns = np.flatnonzero(_uneven(grey.T))
    if not rows.size or not columns.size:
        return 1.0
    inner = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return 1.0 - float(inner) / grey.size


def _uneven(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which rows are not of one level."""
    return np.asarray((grey.max(axis=1) - grey.min(axis=1)) > _EVEN)


def filled_share(pixels: NDArray[np.uint8]) -> float:
    """Share of the height or width of (h, w, 3) pixels that is exactly middle grey at one side and not at the opposite
    one, which would be a frame.

    That grey is what libjpeg puts, without a word, where the coded data of a JPEG with an end marker ends too early.
    """
    if not (pixels[:: max(1, len(pixels) - 1), :: max(1, pixels.shape[1] - 1)] == _MIDDLE).all(axis=2).any():
        return 0.0
    grey = (pixels == _MIDDLE).all(axis=2)
    ends = [(_leading(lines), _leading(lines[::-1]), len(lines)) for lines in (grey, grey.T)]
    return max(0.0 if first and last else (first + last) / length for first, last, length in ends)


def _leading(lines: NDArray[np.bool_]) -> int:
    """How many lines, from the first on, are all True."""
    broken = np.flatnonzero(~lines.all(axis=1))
    return int(broken[0]) if broken.size else len(lines)


def _waves(count: int) -> NDArray[np.float32]:
    """(count, SQUARE_PX) cosines of the discrete cosine transform (type II)."""
    places = 2 * np.arange(SQUARE_PX) + 1
    return np.cos(np.pi * np.arange(count)[:, None] * places / (2 * SQUARE_PX)).astype(np.float32)


_WAVES = _waves(16)


def perceptual_hash(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(HASH_BITS / 8,) which of the lowest 16 x 16 frequencies of (SQUARE_PX, SQUARE_PX) luma are above their median.

    After Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010).
    """
    found = _WAVES @ grey.astype(np.float32) @ _WAVES.T
    found[0, 0] = 0.0
    return np.packbits(found > np.median(found))
