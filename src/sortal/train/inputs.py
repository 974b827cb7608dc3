"""What the network is fed with: input size, resize rule, mean and spread, from the weights and from the images."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError, ImageError
from sortal.core.preprocess import PreprocessSpec, prepare
from sortal.core.recipe import Recipe
from sortal.data.decode import to_pixels
from sortal.data.header import read_header
from sortal.data.table import ImageTable
from sortal.models.resolve import ModelSource
from sortal.train.augment.basic import SMALL

ELONGATED = 1.25
"""Long side over short side from which the centre crop would cut away too much of an image."""
ENLARGE = 8 / 7
"""Weights trained on random crops saw objects larger than a centre crop shows them; a larger input makes up for it
(Touvron et al. 2019, "Fixing the train-test resolution discrepancy"). 224 px become 256."""

_LEAST_S = {192: 0.0, 224: 0.9, 256: 1.3}
"""Input size -> processor seconds an image from which fine-tuning uses it: about two dozen passes of a mobile network,
a sixth smaller in training."""

_SAMPLE = 256
LEAST_STD = {8: 0.01, 16: 0.0005}
"""The smallest spread by bit depth: two or three grey levels, also for 12-bit images in 16 bits."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def geometry(
    recipe: Recipe, source: ModelSource, shapes: NDArray[np.int64], notes: list[str], *, small: float = math.inf
) -> tuple[tuple[int, int], Literal["crop", "pad", "stretch"], float]:
    """Size (height, width), resize rule and crop ratio for images of these (N, 2) heights and widths.

    `small`: processor seconds that fine-tuning has for an image; little time asks for a smaller input.
    """
    short, long = float(np.median(shapes.min(axis=1))), float(np.median(shapes.max(axis=1) / shapes.min(axis=1)))
    size = _in_time(recipe, source, _size(recipe, source, short, notes), small, notes)
    crop = source.input.crop if source.input else recipe.input.crop
    crop = recipe.input.crop if "crop" in recipe.input.model_fields_set else crop
    if recipe.input.resize != "auto":
        return size, recipe.input.resize, crop
    if long > ELONGATED:
        notes.append(
            f"The images are elongated (the long side is {long:.2f} times the short one), so they are fitted inside "
            "the input and padded; a centre crop would cut off their ends."
        )
        return size, "pad", crop
    if max(size) <= SMALL:
        notes.append("The images are small, so they are shown whole, without a centre crop.")
        return size, "pad", crop
    return size, "crop", crop


def _size(recipe: Recipe, source: ModelSource, short: float, notes: list[str]) -> tuple[int, int]:
    asked = recipe.input.size
    if asked != "auto":
        return asked if isinstance(asked, tuple) else (asked, asked)
    if source.input is None:
        side = 224 if source.weights_path is not None else _scratch_size(short)
        notes.append(f"Input of {side} px, from images whose short side is {short:.0f} px at the median.")
        return side, side
    side = source.input.size
    larger = round(side * ENLARGE / 32) * 32
    if short >= larger:
        notes.append(
            f"Input of {larger} px: the images are large enough, and weights trained at {side} px do better so."
        )
        return larger, larger
    notes.append(f"Input of {side} px, as the weights were trained.")
    return side, side


def _in_time(
    recipe: Recipe, source: ModelSource, size: tuple[int, int], seconds: float, notes: list[str]
) -> tuple[int, int]:
    if recipe.input.size != "auto" or source.input is None or math.isinf(seconds):
        return size
    fitting = [side for side, least_s in _LEAST_S.items() if seconds >= least_s] or [min(_LEAST_S)]
    side = min(max(fitting), *size)
    if side < min(size):
        notes.append(f"Input of {side} px instead of {min(size)}, so that enough passes fit into the time.")
    return side, side


def _scratch_size(short: float) -> int:
    """Small images at their own size (28 and 32 px become 32), others smaller than they are, up to 96 px."""
    if short <= SMALL:
        return max(8, math.ceil(short / 8) * 8)
    return int(min(96, short // 16 * 16))


def statistics(
    recipe: Recipe,
    source: ModelSource,
    table: ImageTable,
    rows: NDArray[np.int64],
    size: tuple[int, int],
    notes: list[str],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel: as asked, as the weights were trained, or measured on the training images."""
    mean, std, channels = recipe.input.mean, recipe.input.std, recipe.input.channels
    if mean != "auto" and std != "auto":
        return mean, std
    if source.weights_path is None:
        known = _measure(table, rows, size, recipe)
        notes.append("Mean and spread of the colours were measured on the training images.")
    else:
        trained_on = _IMAGENET if source.input is None else (source.input.mean, source.input.std)
        known = _of_channels(*trained_on, channels)
    return (known[0] if mean == "auto" else mean), (known[1] if std == "auto" else std)


def _of_channels(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if len(mean) == channels:
        return mean, std
    return (float(np.mean(mean)),) * channels, (float(np.mean(std)),) * channels


def _measure(
    table: ImageTable, rows: NDArray[np.int64], size: tuple[int, int], recipe: Recipe
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, over up to 256 training images spread evenly; unreadable ones are left out here and found later."""
    channels, depth = recipe.input.channels, recipe.input.depth
    spec = PreprocessSpec(
        channels=channels,
        depth=depth,
        region=recipe.input.region,
        size=size,
        resize="stretch",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    sums = np.zeros((2, channels))
    pixels = 0
    for row in _spread(rows):
        try:
            image = to_pixels(table.read(int(row)), channels=channels, depth=depth, where=table.name(int(row)))
        except ImageError:
            continue
        values = prepare(spec, image).reshape(-1, channels).astype(np.float64) / spec.maximum
        sums += values.sum(axis=0), (values**2).sum(axis=0)
        pixels += len(values)
    if not pixels:
        raise DataError("none of the training images can be read", where=table.source)
    mean = sums[0] / pixels
    std = np.sqrt(np.maximum(sums[1] / pixels - mean**2, LEAST_STD[depth] ** 2))
    return tuple(float(round(v, 4)) for v in mean), tuple(float(round(v, 4)) for v in std)


def shapes_of(table: ImageTable, rows: NDArray[np.int64], recipe: Recipe) -> NDArray[np.int64]:
    """(up to 256, 2) heights and widths inside the region; from the table where it was scanned, else from headers."""
    chosen = _spread(rows)
    columns = set(table.frame.columns)
    shapes = np.array([_shape(table, int(row), scanned="_width" in columns) for row in chosen], dtype=np.float64)
    left, top, right, bottom = recipe.input.region or (0.0, 0.0, 1.0, 1.0)
    shapes = shapes[(shapes > 0).all(axis=1)] * (bottom - top, right - left)
    if not len(shapes):
        raise DataError("none of the training images can be read", where=table.source)
    return np.maximum(np.rint(shapes), 1).astype(np.int64)


def _shape(table: ImageTable, row: int, *, scanned: bool) -> tuple[int, int]:
    if scanned and table.frame["_width"][row] is not None:
        return int(table.frame["_height"][row]), int(table.frame["_width"][row])
    try:
        image = table.read(row)
        if isinstance(image, np.ndarray):
            return image.shape[0], image.shape[1]
        header = read_header(image)
    except ImageError:
        return 0, 0
    return header.height, header.width


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64))]
