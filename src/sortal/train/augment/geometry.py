"""Where the pixels of a varied image come from: crop, zoom, turns, flips, slant and shift as one map an image.

Chance becomes `Views` (numbers that can be checked), views become maps, and `warp` reads every pixel once, whatever was
composed. A map is a (2, 3) matrix [A | c]: the output pixel at `d` from the output's center comes from `A d + c` in
the stored image, in pixels whose centers have whole coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.train.augment.opencv import cv2
from sortal.train.augment.ranges import Ranges

Maps = NDArray[np.float64]
"""(N, 2, 3)."""
Floats = NDArray[np.floating[Any]]

ATTEMPTS = 10
"""Crops that are drawn until one fits, as torchvision's RandomResizedCrop does; then the whole image."""
DRAWS = 2 * ATTEMPTS + 12
CHIRAL_DEGREES = 45.0
"""Images of chiral classes are turned by less than this: beyond, another upright is nearer than their own."""
_SHRINKS = 1.5
"""Stored pixels for one of the output from which a window is averaged instead of sampled."""
_LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_COSINES, _SINES = np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])
"""Of quarter turns, exact."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """What N images are seen through, applied in this order."""

    center: Floats
    """(N, 2) x and y of the window's center, in shares of the stored image."""
    extent: Floats
    """(N, 2) width and height of the window, in shares of the stored image."""
    zoom: Floats
    """(N,) factor by which things get larger."""
    turns: NDArray[np.int64]
    """(N,) quarter turns, counter-clockwise."""
    mirrored: NDArray[np.bool_]
    upended: NDArray[np.bool_]
    angle: Floats
    """(N,) degrees, counter-clockwise."""
    slant: Floats
    """(N, 2) pixels a pixel: of rows, of columns."""
    shift: NDArray[np.int64]
    """(N, 2) whole pixels of the output to the right and down."""


def choose_views(
    ranges: Ranges,
    u: NDArray[np.float32],
    *,
    chiral: NDArray[np.bool_],
    inner: tuple[float, float],
    size: tuple[int, int],
) -> Views:
    """Views from (N, DRAWS) numbers in [0, 1) for outputs of `size` (height, width).

    `inner` is the (width, height) of the validation crop in shares of the stored image. Images marked in `chiral` (N,)
    are neither mirrored nor quarter-turned, nor turned by more than CHIRAL_DEGREES.
    """
    center, extent = _crops(ranges, u, inner)
    rest = u[:, 2 * ATTEMPTS + 2 :]
    turns = np.where((rest[:, 0] < ranges.quarter_turns) & ~chiral, np.floor(rest[:, 1] * 4), 0).astype(np.int64)
    if size[0] != size[1]:
        turns = turns // 2 * 2  # a quarter turn of an oblong image would change its shape
    largest = np.where(chiral, min(ranges.rotate, CHIRAL_DEGREES), ranges.rotate)
    reach = np.round(np.array([size[1], size[0]]) * ranges.shift)
    return Views(
        center=center,
        extent=extent,
        zoom=ranges.scale[0] + (ranges.scale[1] - ranges.scale[0]) * rest[:, 2].astype(np.float64),
        turns=turns,
        mirrored=(rest[:, 3] < ranges.flip) & ~chiral,
        upended=(rest[:, 4] < ranges.flip_vertical) & ~chiral,
        angle=_either_way(rest[:, 5]) * largest,
        slant=_either_way(rest[:, 6:8]) * ranges.shear,
        shift=(np.floor(rest[:, 8:10] * (2 * reach + 1)) - reach).astype(np.int64),
    )


def _either_way(u: NDArray[np.float32]) -> NDArray[np.float64]:
    return u.astype(np.float64) * 2 - 1


def _crops(ranges: Ranges, u: NDArray[np.float32], inner: tuple[float, float]) -> tuple[Floats, Floats]:
    count = len(u)
    if ranges.crop_scale is None:
        return np.full((count, 2), 0.5), np.tile(np.asarray(inner), (count, 1))
    low, high = ranges.crop_scale
    areas = low + (high - low) * u[:, :ATTEMPTS].astype(np.float64)
    aspects = np.exp(_either_way(u[:, ATTEMPTS : 2 * ATTEMPTS]) * math.log(ranges.crop_aspect))
    sides = np.stack([np.sqrt(areas * aspects), np.sqrt(areas / aspects)], axis=2)
    fits: NDArray[np.bool_] = np.all(sides <= 1, axis=2)
    first = fits.argmax(axis=1)
    extent = np.where(np.any(fits, axis=1)[:, None], sides[np.arange(count), first], 1.0)
    place = _either_way(u[:, 2 * ATTEMPTS : 2 * ATTEMPTS + 2])
    return 0.5 + place * (1 - extent) / 2 * ranges.crop_reach, extent


def maps(views: Views, stored: tuple[int, int], size: tuple[int, int]) -> Maps:
    """What `views` mean for stored images of (height, width) and outputs of `size`: (N, 2, 3)."""
    sides, outer = np.array([stored[1], stored[0]]), np.array([size[1], size[0]])
    found = np.empty((len(views.zoom), 2, 3))
    found[:, :, 2] = views.center * sides - 0.5
    window = views.extent * sides / outer / views.zoom[:, None]
    found[:, :, :2] = _diagonal(window) @ _rotation(_COSINES[views.turns], _SINES[views.turns])
    found[:, :, :2] @= _diagonal(np.stack([1.0 - 2.0 * views.mirrored, 1.0 - 2.0 * views.upended], axis=1))
    angle = np.radians(views.angle)
    found = composed(found, _rotation(np.cos(angle), np.sin(angle)))
    return composed(found, _slanted(views.slant), -views.shift.astype(np.float64))


def composed(base: Maps, inner: Floats, offset: Floats | None = None) -> Maps:
    """Maps that first take an output pixel to `inner @ (d + offset)`, (N, 2, 2) and (N, 2), then go on with `base`."""
    linear = base[:, :, :2] @ inner
    center = base[:, :, 2] if offset is None else base[:, :, 2] + (linear @ offset[:, :, None])[:, :, 0]
    return np.concatenate([linear, center[:, :, None]], axis=2)


def _rotation(cosines: Floats, sines: Floats) -> NDArray[np.float64]:
    """Where the pixels of an image come from that was turned counter-clockwise (rows run down)."""
    return np.stack([np.stack([cosines, -sines], axis=1), np.stack([sines, cosines], axis=1)], axis=1)


def _diagonal(values: Floats) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)[:, :, None] * np.eye(2)


def _slanted(slant: Floats) -> NDArray[np.float64]:
    found = np.tile(np.eye(2), (len(slant), 1, 1))
    found[:, 0, 1], found[:, 1, 0] = slant[:, 0], slant[:, 1]
    return found


def warp(images: Pixels, where: Maps, size: tuple[int, int], *, fill: tuple[float, ...] | None) -> Pixels:
    """(N, h, w, C) pixels read through `where` (N, 2, 3) into (N, *size, C), by linear interpolation.

    Beyond its border an image is mirrored, or continued by `fill` (a sample for each channel). Maps without slant or
    rotation use whole windows; where these are as large as the output, its pixels are exactly those of the image.
    """
    found = np.empty((len(images), *size, images.shape[3]), images.dtype)
    slants = np.minimum(
        np.abs(where[:, 0, 1]) + np.abs(where[:, 1, 0]), np.abs(where[:, 0, 0]) + np.abs(where[:, 1, 1])
    )
    for row, image in enumerate(images):
        if slants[row] < 1e-9:
            _read_window(image, where[row], found[row], fill)
        else:
            _read_pixels(image, where[row], found[row], fill)
    return found


def _read_window(image: Pixels, where: NDArray[np.float64], into: Pixels, fill: tuple[float, ...] | None) -> None:
    """Crop, resize, then transpose and flip: about six times as fast as a warp."""
    height, width = into.shape[:2]
    linear = where[:, :2]
    turned = abs(linear[0, 0]) < abs(linear[0, 1])
    step_x, step_y = (linear[0, 1], linear[1, 0]) if turned else (linear[0, 0], linear[1, 1])
    across, down = (height, width) if turned else (width, height)
    wide, tall = max(1, round(abs(step_x) * across)), max(1, round(abs(step_y) * down))
    left, top = round(where[0, 2] + 0.5 - wide / 2), round(where[1, 2] + 0.5 - tall / 2)
    window: Any = _cut(image, left, top, wide, tall, fill)
    if (tall, wide) != (down, across):
        shrinks = wide >= _SHRINKS * across or tall >= _SHRINKS * down
        window = cv2.resize(window, (across, down), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if turned:
        window = cv2.transpose(window)
        step_x, step_y = step_y, step_x
    flips = {(True, True): -1, (True, False): 1, (False, True): 0}.get((step_x < 0, step_y < 0))
    if flips is None:
        into[:] = window.reshape(into.shape)
    else:
        cv2.flip(window, flips, dst=into)


def _cut(image: Pixels, left: int, top: int, wide: int, tall: int, fill: tuple[float, ...] | None) -> Pixels:
    """A window that may lie beyond the border."""
    height, width = image.shape[:2]
    above, before = max(0, -top), max(0, -left)
    below, after = max(0, top + tall - height), max(0, left + wide - width)
    if above or before or below or after:
        border = cv2.BORDER_REFLECT_101 if fill is None else cv2.BORDER_CONSTANT
        image = np.asarray(cv2.copyMakeBorder(image, above, below, before, after, border, value=fill or 0))
    return image[top + above : top + above + tall, left + before : left + before + wide]


def _read_pixels(image: Pixels, where: NDArray[np.float64], into: Pixels, fill: tuple[float, ...] | None) -> None:
    """One affine warp. Four channels take half the time of three."""
    height, width, channels = into.shape
    image, where = _shrunk(image, where)
    matrix = where.copy()
    matrix[:, 2] -= where[:, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
    border = cv2.BORDER_REFLECT_101 if fill is None else cv2.BORDER_CONSTANT
    source = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA) if channels == 3 else image
    read = cv2.warpAffine(source, matrix, (width, height), flags=_LINEAR, borderMode=border, borderValue=fill or 0)
    if channels == 3:
        cv2.cvtColor(read, cv2.COLOR_RGBA2RGB, dst=into)
    else:
        into[:] = read.reshape(into.shape)


def _shrunk(image: Pixels, where: NDArray[np.float64]) -> tuple[Pixels, NDArray[np.float64]]:
    """An averaged smaller image, and the map into it, where single pixels would be picked out of many."""
    step = float(np.sqrt(abs(np.linalg.det(where[:, :2]))))
    if step < _SHRINKS:
        return image, where
    height, width = image.shape[:2]
    small: Any = cv2.resize(
        image, (max(1, round(width / step)), max(1, round(height / step))), interpolation=cv2.INTER_AREA
    )
    factors = np.array([small.shape[1] / width, small.shape[0] / height])
    shrunk = where * factors[:, None]
    shrunk[:, 2] += (factors - 1) / 2
    return small.reshape(*small.shape[:2], image.shape[2]), shrunk
