"""The images that an export is checked on: the run's own where they are still where they were, or those one is given.

Validation images come first, then training images; test images are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.canonical import parse
from sortal.core.errors import InputError, SortalError
from sortal.core.recipe import load_recipe
from sortal.core.run import RunFolder
from sortal.data.open import images as open_images
from sortal.data.table import ImageTable
from sortal.runtime.sources import Images, Item, items_of

MADE = "made: "
"""How names of images begin that are nobody's."""

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
