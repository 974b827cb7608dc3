"""Small labeled images in memory-mapped arrays, and small networks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sortal.core.recipe import Recipe, load_recipe
from sortal.data.open import images
from sortal.data.table import ImageTable
from sortal.models.resolve import ModelSource

MODE = ("train.precision=fp32", "train.layout=channels_last", "train.compile=false")
"""Nothing is left to a measurement, which could come out differently the next time."""
SOURCE = ModelSource(name="sortal_tiny", architecture="sortal_tiny", arguments={"width": 0.15, "depth": 0.5})


def draw(label: int, classes: int, random: np.random.Generator, size: int, noise: float) -> np.ndarray:
    """A grating whose angle is the class, with noise."""
    y, x = np.mgrid[:size, :size] / size
    angle = np.pi * label / classes
    wave = np.sin(2 * np.pi * (3 * (x * np.cos(angle) + y * np.sin(angle)) + random.random()))
    image = 127 + 60 * wave[:, :, None] + random.normal(0, noise, (size, size, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def gratings(
    path: Path, *, classes: int = 3, train: int = 8, val: int = 4, size: int = 16, noise: float = 20.0
) -> ImageTable:
    """A table of arrays in `path` (`.npz`): `train` and `val` images of each class, and one for testing."""
    random = np.random.default_rng(classes)
    arrays = {}
    for split, count in (("train", train), ("val", val), ("test", 1)):
        labels = np.repeat(np.arange(classes), count)
        arrays[f"{split}_labels"] = labels.astype(np.uint8 if classes < 256 else np.int64)[:, None]
        pixels = [draw(int(label), classes, random, size, noise) for label in labels]
        arrays[f"{split}_images"] = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
    np.savez(path, **arrays)
    return images(path)


def recipe(*settings: str) -> Recipe:
    """Defaults for tests: two epochs, small batches, no threads."""
    given = ("train.epochs=2", "train.batch=8", "train.workers=0", "model.weights=null", *MODE, *settings)
    return load_recipe(None, given)
