"""The images that an export is checked on: the run's own where they are still where they were, or those one is given.

Validation images come first, then training images; test images are left alone. Ranges of integers are taken from
training images.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.canonical import parse
from sortal.core.errors import DataError, InputError, SortalError
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.recipe import load_recipe
from sortal.core.run import RunFolder
from sortal.data.open import images as open_images
from sortal.data.table import ImageTable
from sortal.runtime.feed import prepared_batches
from sortal.runtime.sources import Images, Item, items_of
from sortal.runtime.threads import allowed_cpus

MADE = "made: "
"""How names of images begin that are nobody's."""

CALIBRATION_IMAGES = 128
"""Training images that set the ranges of an artifact in integers."""
FEWEST = 10
"""Calibration images below which the ranges would be those of single images."""

_BATCH = 32
_HINT = "name some: sortal export RUN --to ... --images photos/"


def images_to_check(run: RunFolder | None, given: Images | None, count: int) -> Sequence[Item]:
    """Up to `count` images, spread evenly. Raises InputError where there are none, with what to do."""
    if count < 1:
        raise InputError("a parity check needs at least one image", received=str(count))
    if given is not None:
        return _spread(items_of(given), count)
    if run is None:
        raise InputError("a bundle alone has no images to check its artifacts on", hint=_HINT)
    table = _table_of(run)
    splits = _splits(run)
    chosen: list[Item] = []
    items = items_of(table)
    for split in ("val", "train"):
        rows = [row for row, name in enumerate(table.names()) if splits.get(name) == split]
        chosen += _spread([items[row] for row in _even(rows, count - len(chosen))], count)
    if not chosen:
        raise InputError("none of the run's images is where it was", where=table.source, hint=_HINT)
    return chosen


def odd_images(*, channels: int, depth: int) -> list[Item]:
    """Made images of shapes and kinds that a person's own seldom have: one pixel, one row, long, tiny, grey, with
    transparency, of 16 bits."""
    random = np.random.default_rng(0)
    deepest = 255 if depth == 8 else 65535
    kind = np.uint8 if depth == 8 else np.uint16
    shapes = {"one pixel": (1, 1), "one row": (1, 40), "one column": (40, 1), "tiny": (3, 5), "narrow": (300, 13)}
    shapes |= {"flat": (12, 500), "very long": (9, 1500), "odd sides": (61, 47)}
    made: dict[str, NDArray[Any]] = {
        name: random.integers(0, deepest + 1, (*shape, channels)).astype(kind) for name, shape in shapes.items()
    }
    made["grey"] = random.integers(0, deepest + 1, (33, 45)).astype(kind)
    made["transparent"] = random.integers(0, deepest + 1, (30, 30, 4)).astype(kind)
    made["deeper"] = random.integers(0, 65536, (28, 36, channels)).astype(np.uint16)
    return [_made(name, pixels) for name, pixels in made.items()]


def _made(name: str, pixels: NDArray[Any]) -> Item:
    return Item(name=f"{MADE}{name}", open=lambda: pixels)


def calibration_pixels(run: RunFolder | None, given: Images | None, spec: PreprocessSpec) -> Pixels:
    """Up to 128 of the run's training images at the network's size (N, height, width, channels), all classes in turn.

    Where the run's own images are gone, those that are `given`, spread evenly. Raises InputError where there are none,
    DataError where fewer than ten can be read.
    """
    items = _training_items(run, given)
    pixels = [part.pixels for part in prepared_batches(items, spec, batch=_BATCH, workers=allowed_cpus())]
    count = sum(len(part) for part in pixels)
    if count < FEWEST:
        raise DataError(f"ranges of integers need {FEWEST} images at least", received=f"{count} readable", hint=_HINT)
    return np.concatenate(pixels)


def _training_items(run: RunFolder | None, given: Images | None) -> Sequence[Item]:
    try:
        if run is None:
            raise InputError("a bundle alone has no images to take ranges of integers from", hint=_HINT)
        table = _table_of(run)
    except InputError:
        if given is None:
            raise
        return _spread(items_of(given), CALIBRATION_IMAGES)
    splits = _splits(run)
    names = table.names()
    rows = np.array([row for row, name in enumerate(names) if splits.get(name) == "train"], np.int64)
    if not len(rows):
        raise InputError("none of the run's training images is where it was", where=table.source, hint=_HINT)
    chosen = rows[round_the_classes(table.label_array()[rows], CALIBRATION_IMAGES)]
    items = items_of(table)
    return [items[int(row)] for row in chosen]


def round_the_classes(labels: NDArray[np.int64], most: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Positions of up to `most` of N labels (N,), ascending: one of each class in turn, at random within the class."""
    random = np.random.Generator(np.random.Philox(key=seed))
    shuffled = random.permutation(len(labels))
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        mine = shuffled[labels[shuffled] == label]
        turn[mine] = np.arange(len(mine))
    order = shuffled[np.argsort(turn[shuffled], kind="stable")]
    return np.sort(order[:most])


def _table_of(run: RunFolder) -> ImageTable:
    """The run's images, read as it read them."""
    source = _source(run)
    if source is None:
        raise InputError("this run does not know where its images came from", where=str(run.path), hint=_HINT)
    data = load_recipe(run.recipe_path).data
    try:
        return open_images(
            source, label=data.label, group=data.group, level=data.level, boxes=data.boxes, margin=data.margin
        )
    except SortalError as error:
        raise InputError("the run's images are not where they were", where=str(source), hint=_HINT) from error


def _source(run: RunFolder) -> Any:
    if not (run.state_path.is_file() and run.recipe_path.is_file() and run.split_path.is_file()):
        return None
    state = parse(run.state_path.read_bytes(), where=str(run.state_path))
    source = state.get("origin", {}).get("source") if isinstance(state, dict) else None
    return [Path(part) for part in source] if isinstance(source, list) else source


def _splits(run: RunFolder) -> dict[str, str]:
    with run.split_path.open(encoding="utf-8", newline="") as file:
        return {row["name"]: row["split"] for row in csv.DictReader(file)}


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    return [items[row] for row in _even(range(len(items)), count)]


def _even(rows: Sequence[int], count: int) -> list[int]:
    if not rows or count < 1:
        return []
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    return [rows[int(place)] for place in places]
