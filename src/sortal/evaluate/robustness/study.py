"""How an exported classifier takes worse pictures: the same images under every corruption at every strength.

What counts beside the accuracy lost is whether the classifier notices: how much it still answers, and how often what it
answers is wrong. Images are decoded once, brought to about twice the size of the network's input (strengths are meant
at that size) and answered as pixels, through the preprocessing and the decision of production.

Shapes: N images, K corruptions, S = STRENGTHS, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sortal.core.errors import DataError, ImageError, InputError, nearest
from sortal.data.decode import to_pixels
from sortal.data.table import ImageTable
from sortal.evaluate.robustness import CORRUPTIONS
from sortal.evaluate.robustness.corruption import STRENGTHS, Corruption, Pixels
from sortal.runtime.classifier import Classifier

Ints = NDArray[np.int64]
Progress = Callable[[int, int], None]

IMAGES = 100
"""Images that are looked at unless told otherwise; each is answered once and then 5 times a corruption."""
_CHUNK = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Answers to N images, clean and under K corruptions at S strengths."""

    names: tuple[str, ...]
    """(K,) corruptions."""
    rows: Ints
    """(N,) rows of the table."""
    labels: Ints
    """(N,) true classes."""
    clean: Ints
    """(N,) answered classes."""
    clean_given: NDArray[np.bool_]
    """(N,) not abstained."""
    index: Ints
    """(K, S, N) answered classes."""
    given: NDArray[np.bool_]
    """(K, S, N) not abstained."""


def corruption_names(only: Sequence[str] = ()) -> tuple[str, ...]:
    """Those asked for, or all. Raises InputError for an unknown name."""
    known = CORRUPTIONS.names()
    for name in only:
        if name not in known:
            raise InputError("unknown corruption", received=name, hint=nearest(name, known))
    return tuple(only) or tuple(known)


def sample(labels: Ints, images: int, seed: int) -> Ints:
    """Up to `images` rows with a label, sorted: as equally many of each class as there are."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    shuffled = generator.permutation(np.flatnonzero(labels >= 0))
    own = labels[shuffled]
    turn = np.zeros(len(shuffled), np.int64)
    for name in np.unique(own):
        mine = np.flatnonzero(own == name)
        turn[mine] = np.arange(len(mine))
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:images]])


def corrupted_answers(
    classifier: Classifier,
    table: ImageTable,
    labels: Ints,
    *,
    only: Sequence[str] = (),
    images: int = IMAGES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Answers:
    """Answer up to `images` readable images of `table` whose `labels` (N,) are not -1. Raises DataError without any."""
    names = corruption_names(only)
    corruptions = [CORRUPTIONS.get(name) for name in names]
    wanted = sample(labels, images, seed)
    rows, parts = list[int](), list[_Part]()
    total = len(wanted) * (1 + len(names) * STRENGTHS)
    for chunk, pictures in _read(table, wanted, classifier):
        rows.extend(chunk)
        parts.append(_answered(classifier, pictures, chunk, corruptions, seed))
        if progress is not None:
            progress(len(rows) * (1 + len(names) * STRENGTHS), total)
    if not rows:
        raise DataError("no image with a known label can be read", where=table.source, received=f"{len(wanted)} tried")
    if progress is not None:
        progress(total, total)
    kept = np.asarray(rows, np.int64)
    index, given = (np.concatenate([part[n] for part in parts], axis=1) for n in range(2))
    shape = (len(names), STRENGTHS, len(kept))
    return Answers(
        names=names,
        rows=kept,
        labels=labels[kept],
        clean=index[0],
        clean_given=given[0],
        index=index[1:].reshape(shape),
        given=given[1:].reshape(shape),
    )


_Part = tuple[Ints, NDArray[np.bool_]]
"""(1 + K S, n) answers and whether they were given, of one chunk."""


def _answered(
    classifier: Classifier, pictures: list[Pixels], rows: Sequence[int], corruptions: Sequence[Corruption], seed: int
) -> _Part:
    asked = [pictures]
    for number, corruption in enumerate(corruptions):
        for strength in range(1, STRENGTHS + 1):
            drawn = [_generator(seed, number, strength, row) for row in rows]
            asked.append([corruption.at(each, strength, own) for each, own in zip(pictures, drawn, strict=True)])
    found = [classifier.predict(each) for each in asked]
    return np.stack([one.index for one in found]), np.stack([~one.abstained for one in found])


def _generator(seed: int, corruption: int, strength: int, row: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, corruption, strength, row))))


def _read(table: ImageTable, wanted: Ints, classifier: Classifier) -> Iterator[tuple[list[int], list[Pixels]]]:
    """Readable images, some at a time."""
    longest_px = 2 * max(classifier.preprocess.size)
    for start in range(0, len(wanted), _CHUNK):
        rows, pictures = list[int](), list[Pixels]()
        for row in wanted[start : start + _CHUNK].tolist():
            try:
                pixels = to_pixels(table.read(row), channels=3, depth=8, where=table.name(row))
            except ImageError:
                continue
            rows.append(row)
            pictures.append(_reduced(pixels, longest_px))
        if rows:
            yield rows, pictures


def _reduced(pixels: Pixels, shorter_px: int) -> Pixels:
    """With its shorter side at most so long."""
    factor = shorter_px / min(pixels.shape[:2])
    if factor >= 1:
        return pixels
    height, width = (round(length * factor) for length in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0))
