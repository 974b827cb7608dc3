"""From what a decoder or a caller holds to upright-ready samples: declared channels and depth, opaque, RGB order.

The rules, once: transparency is laid over white; color becomes grey by ITU-R 601 luma (Pillow's "L"); grey becomes
color by repetition; 16 bits become 8 by rounding sample/257 and 8 become 16 by sample*257, so the full range maps to
the full range and nothing is clipped; CMYK becomes RGB without color management; float, signed and 32-bit samples
are refused, since their range is not known.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.core.errors import ImageError

Pixels = NDArray[np.unsignedinteger[Any]]
_CONVERTIBLE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LA", "La", "PA", "RGBA", "RGBa"}
_WIDE_GREY = {"I;16", "I;16B", "I;16L", "I;16N"}
_ROWS = 256
"""Rows that are converted at a time, which bounds the memory of what lies between decoder and result."""


def from_pillow(image: Image.Image, *, channels: Literal[1, 3], depth: Literal[8, 16]) -> Pixels:
    """(height, width, channels) of a loaded Pillow image, as it lies; raises ImageError `unsupported_mode`."""
    if image.mode in _WIDE_GREY:
        wide = np.asarray(image).astype(np.uint16)[:, :, None]
        return from_samples(wide, channels=channels, depth=depth)
    if image.mode not in _CONVERTIBLE:
        raise ImageError("unsupported_mode", f"pixels of mode {image.mode} have no known range")
    array = np.empty((image.height, image.width, channels), np.uint8)
    for top in range(0, image.height, _ROWS):
        rows = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
        array[top : top + _ROWS] = _flat(rows, "L" if channels == 1 else "RGB").reshape(-1, image.width, channels)
    return to_depth(array, depth)


def from_samples(samples: Pixels, *, channels: Literal[1, 3], depth: Literal[8, 16]) -> Pixels:
    """The same for an array of uint8 or uint16, (height, width, 1 grey | 2 grey, alpha | 3 RGB | 4 RGBA)."""
    if samples.shape[2] == channels:
        return to_depth(samples, depth)
    blocks = [_block(samples[top : top + _ROWS], channels) for top in range(0, samples.shape[0], _ROWS)]
    return to_depth(np.concatenate(blocks), depth)


def to_depth(samples: Pixels, depth: Literal[8, 16]) -> Pixels:
    """Samples of 8 or 16 bits as uint8 or uint16, full range to full range."""
    if depth == 8 and samples.dtype == np.uint16:
        table = ((np.arange(65536, dtype=np.uint32) + 128) // 257).astype(np.uint8)
        return np.asarray(table[samples])
    if depth == 16 and samples.dtype == np.uint8:
        return samples.astype(np.uint16) * np.uint16(257)
    return samples


def upright(samples: Pixels, orientation: int) -> Pixels:
    """Apply EXIF orientation 1..8; the result is contiguous."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(samples[:: -1 if down else 1, :: -1 if across else 1])


def keyed_alpha(samples: Pixels, key: tuple[int, ...]) -> Pixels:
    """Add an alpha channel that is zero where all samples equal `key` and full elsewhere."""
    clear = np.all(samples == np.asarray(key, dtype=samples.dtype), axis=2, keepdims=True)
    full = np.iinfo(samples.dtype).max
    return np.concatenate([samples, np.where(clear, 0, full).astype(samples.dtype)], axis=2)


def _flat(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    opaque = _over_white(image) if image.has_transparency_data else image
    return np.asarray(opaque if opaque.mode == mode else opaque.convert(mode))


def _over_white(image: Image.Image) -> Image.Image:
    layered = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(layered, mask=layered.getchannel("A"))
    return canvas


def _block(samples: Pixels, channels: int) -> Pixels:
    if samples.shape[2] in (2, 4):
        samples = _blend(samples)
    if samples.shape[2] == channels:
        return samples
    if channels == 3:
        return np.repeat(samples, 3, axis=2)
    weighted = samples.astype(np.uint32) * np.asarray([19595, 38470, 7471], dtype=np.uint32)
    luma: Pixels = (weighted.sum(axis=2, dtype=np.uint32, keepdims=True) + np.uint32(32768)) >> np.uint32(16)
    return luma.astype(samples.dtype)


def _blend(samples: Pixels) -> Pixels:
    """Color over white by alpha, rounded to nearest."""
    full = np.uint64(np.iinfo(samples.dtype).max)
    alpha = samples[:, :, -1:].astype(np.uint64)
    blended = (samples[:, :, :-1] * alpha + full * (full - alpha) + full // np.uint64(2)) // full
    return np.asarray(blended.astype(samples.dtype))
