"""A faster way from image files to training pixels: JPEGs decoded at reduced scale, resized by torch's integer kernels.

A declared second implementation of `core.preprocess.prepare` over `data.decode`, for training alone. The antialiased
resize of uint8 in torch follows Pillow's filters within 2 grey levels at any pixel and takes a fifth of the time, so
nearly all of the difference from the reference is that of the reduced scale: see `data.fast_jpeg`. Windows, regions, 16
bits, grey and other filters go through the reference.

Heads fitted on frozen features of these pixels instead of the reference's, judged on the reference's: X-SDD at 224 px
0.00 points (standard error 0.04), Grocery Store at 224 px -0.12 (0.12), at 112 px and half scale +0.07 (0.35):
`benchmarks/loader.py --accuracy`. OpenCV's linear resize takes 0.1 to 0.3 ms less an image, differs by 0.7 grey levels
and cost a point on Grocery Store at 224 px (-0.99, 0.28).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec, cover, fit_inside, prepare
from sortal.data.decode import to_pixels
from sortal.data.fast_jpeg import Reduced, decode_reduced
from sortal.data.header import read_header

_FILTERS: dict[str, Any] = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.out,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.out,
}
_MOST_COVERING = 16
"""As in `prepare`: beyond, only the central part of a long image is resized."""
_UP = 1 + 1e-9
"""n * (m / n) may come out below m, and torch rounds sizes down."""


def fast_prepare(spec: PreprocessSpec, source: bytes | NDArray[Any]) -> Pixels:
    """(height, width, C) of exactly `spec.size` from an encoded file's bytes or an array. Raises ImageError."""
    if not _fits(spec) or not isinstance(source, bytes):
        pixels = to_pixels(source, channels=spec.channels, depth=spec.depth)
        height, width = pixels.shape[:2]
        found = Reduced(pixels=pixels, extent=(height, width), size=(height, width))
    else:
        found = decode_reduced(source, _needed(spec, read_header(source).upright))
    wanted = intermediate(spec, found.size) if _fits(spec) else None
    return prepare(spec, found.pixels if wanted is None else _resized(found, wanted, spec.interpolation))


def intermediate(spec: PreprocessSpec, size: tuple[int, int]) -> tuple[int, int] | None:
    """To what (height, width) `prepare` resizes an image of `size` before it cuts or pads; None: not as a whole."""
    if spec.resize == "stretch":
        return spec.size
    if spec.resize == "pad":
        return fit_inside(size, spec.size)
    target = math.floor(spec.size[0] / spec.crop), math.floor(spec.size[1] / spec.crop)
    covering = cover(size, target)
    too_long = covering[0] * covering[1] > _MOST_COVERING * target[0] * target[1]
    return None if too_long else covering


def _fits(spec: PreprocessSpec) -> bool:
    plain = spec.window is None and spec.region is None and spec.depth == 8 and spec.channels == 3
    return plain and spec.interpolation in _FILTERS


def _needed(spec: PreprocessSpec, size: tuple[int, int]) -> tuple[int, int]:
    """What the decoder must leave; all of it where the image is not resized as a whole."""
    return intermediate(spec, size) or size


def _resized(found: Reduced, wanted: tuple[int, int], method: str) -> Pixels:
    """The resize is told the exact scale; what a partial last row or column adds is cut off.

    `torch.nn.functional.interpolate` would write the channels apart, which costs as much again to undo.
    """
    if found.pixels.shape[:2] == wanted == found.size:
        return found.pixels
    pixels = found.pixels if found.pixels.flags.writeable else found.pixels.copy()
    rows, columns, channels = pixels.shape
    batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    down, across = (side / extent * _UP for side, extent in zip(wanted, found.extent, strict=True))
    resized = torch.empty((1, int(rows * down), int(columns * across), channels), dtype=torch.uint8)
    _FILTERS[method](batch, resized.shape[1:3], False, down, across, out=resized.permute(0, 3, 1, 2))
    return np.asarray(resized[0].numpy()[: wanted[0], : wanted[1]])
