"""Small pictures of images that were confused, for the page."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.core.errors import ImageError
from sortal.core.predictions import Predictions
from sortal.data.decode import to_pixels
from sortal.data.table import ImageTable
from sortal.evaluate.evaluation import pair_examples

THUMBNAIL_PX = 96
PAIRS = 30
"""Confused pairs that the page shows."""

Pair = tuple[str, str]


def confused_thumbnails(
    table: ImageTable, predictions: Predictions, labels: NDArray[np.int64], *, each: int = 3
) -> dict[Pair, list[NDArray[np.uint8]]]:
    """For the most frequent confused pairs (true, answered), up to `each` thumbnails (H, W, 3), surest mistakes first.

    Only pixels are kept: no EXIF, no position.
    """
    frequent = sorted(pair_examples(predictions, labels, each=len(labels)).items(), key=lambda item: -len(item[1]))
    found: dict[Pair, list[NDArray[np.uint8]]] = {}
    for pair, rows in frequent[:PAIRS]:
        for row in rows[:each]:
            with suppress(ImageError):
                found.setdefault(pair, []).append(_thumbnail(table, row))
    return found


def _thumbnail(table: ImageTable, row: int) -> NDArray[np.uint8]:
    pixels = to_pixels(table.read(row), channels=3, depth=8, where=table.name(row))
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(image)
