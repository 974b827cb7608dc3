"""Scenes: pictures of one class that are alike as only pictures of one scene are, in whatever order they lie.

Pictures are compared by what sets them apart from the mean of their class, and the decoys are pairs of different
classes: two such differences have no scene in common, so how alike they are is chance. (Pairs of one class are no
measure of chance. In a class of few scenes those of different scenes lie opposite each other around its mean, and the
more scenes there are, the more this looks like spread.) Where there is one class only, the decoys are the pairs as far
below the middle as others are above it.

The mean of a class of k scenes holds a k-th of each, which pushes its scenes apart by as much: pictures of different
scenes come out at -r / (k - 1) in place of 0, where those of one come out at r. k (the effective number, by shares) and
r are read from a first search, and the second one adds what was lost: s becomes s + (r - s) / k.

Shapes: N rows, D numbers of a vector, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sortal.data.candidates import Floats, Ints
from sortal.data.decoys import across_classes, mirrored, threshold
from sortal.data.linkage import average_linkage

LEAST_CLASS = 6
"""Images of a class from which its own pairs say what is usual."""
WHOLE_CLASS = 2000
"""Images of a class up to which all its pairs are compared; of a larger one parts of this size, in order."""
MOST_PAIRS = 20_000_000
SEARCHES = 2


def within_class(vectors: Floats, labels: Ints) -> Floats:
    """(N, D) of unit length: what sets each picture apart from the others of its class. What a class has in common says
    nothing about who was taken with whom; background, light and pose do. Rows without a class become zero."""
    known = np.flatnonzero(labels >= 0)
    apart = np.zeros_like(vectors, np.float32)
    if len(known):
        order = known[np.argsort(labels[known], kind="stable")]
        counts = np.bincount(labels[known])
        there = np.flatnonzero(counts)
        starts = (np.cumsum(counts) - counts)[there]
        means = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0) / counts[there, None]
        apart[order] = vectors[order] - np.repeat(means, counts[there], axis=0)
    return np.asarray(apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-6), np.float32)


def find_scenes(vectors: Floats, labels: Ints) -> tuple[Ints, list[str]]:
    """(N,) the lowest row of each row's scene, from the vectors of `within_class`, and the evidence in words.

    Scenes are clusters by average linkage: pictures of one scene are more alike, on average, than the threshold.
    """
    into, words, parts = np.arange(len(labels)), list[str](), _parts(labels)
    if not parts:
        return into, words
    decoys, lost = across_classes(vectors, labels, np.concatenate(parts)), _Lost.nothing(labels)
    for _ in range(SEARCHES):
        alike = np.concatenate([_upper(lost.given_back(vectors, labels, rows)) for rows in _spread_over(parts)])
        least = threshold(alike, decoys) if len(decoys) else mirrored(alike)
        if least is None:
            break
        into, same = _linked(vectors, labels, parts, lost, least)
        words = [
            f"by what a network sees, {float((alike >= least).mean()):.0%} of the pairs of a class are of one scene"
        ]
        lost = _Lost.of(into, labels, same)
    return into, words


def skewed_sets(vectors: Floats, labels: Ints) -> Ints:
    """(N,) sets of pictures more alike than others of one class are unlike: scenes, or kinds within a class, or no more
    than likeness that comes by degrees. Where they hold most of the images, likeness is no sign of a scene."""
    parts, into = _parts(labels), np.arange(len(labels))
    if not parts:
        return into
    lost = _Lost.nothing(labels)
    least = mirrored(np.concatenate([_upper(lost.given_back(vectors, labels, rows)) for rows in _spread_over(parts)]))
    return into if least is None else _linked(vectors, labels, parts, lost, least)[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lost:
    """What the likeness of a class loses to its mean."""

    shares: NDArray[np.float64]
    """(K,) 1 / k."""
    same: float
    """r."""

    @staticmethod
    def nothing(labels: Ints) -> _Lost:
        return _Lost(shares=np.zeros(int(labels.max(initial=-1)) + 1), same=0.0)

    @staticmethod
    def of(into: Ints, labels: Ints, same: float) -> _Lost:
        scenes, first, counts = np.unique(into[labels >= 0], return_index=True, return_counts=True)
        owners = labels[labels >= 0][first]
        totals = np.maximum(np.bincount(owners, weights=counts), 1.0)
        squares = np.bincount(owners, weights=np.square(counts.astype(np.float64)))
        return _Lost(shares=squares / np.square(totals) if len(scenes) else np.zeros(0), same=same)

    def given_back(self, vectors: Floats, labels: Ints, rows: Ints) -> Floats:
        """(M, M) likeness of the rows (M,) of one class."""
        alike, share = vectors[rows] @ vectors[rows].T, self.shares[labels[rows[0]]]
        return np.asarray(alike + np.float32(share) * (np.float32(self.same) - alike), np.float32)


def _linked(vectors: Floats, labels: Ints, parts: list[Ints], lost: _Lost, least: float) -> tuple[Ints, float]:
    """(N,) clusters, and how alike the pictures of one cluster are on average, by the vectors as they are."""
    into, total, pairs = np.arange(len(labels)), 0.0, 0
    for rows in parts:
        sets = average_linkage(lost.given_back(vectors, labels, rows), least)
        into[rows] = rows[sets]
        first, second = np.nonzero(np.triu(sets[:, None] == sets[None], 1))
        total += float((vectors[rows] @ vectors[rows].T)[first, second].sum())
        pairs += len(first)
    return into, total / max(pairs, 1)


def _upper(alike: Floats) -> Floats:
    """Likeness of all pairs."""
    return np.asarray(alike[np.triu_indices(len(alike), 1)])


def _parts(labels: Ints) -> list[Ints]:
    return [rows for rows in _class_parts(labels) if len(rows) >= LEAST_CLASS]


def _spread_over(parts: list[Ints]) -> list[Ints]:
    """Parts whose pairs are enough to find a threshold, spread over all classes."""
    return parts[:: max(1, sum(len(rows) ** 2 for rows in parts) // MOST_PAIRS)]


def _class_parts(labels: Ints) -> Iterator[Ints]:
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
    for start, end in pairwise(ends.tolist()):
        for part in range(start, end, WHOLE_CLASS):
            yield order[part : min(part + WHOLE_CLASS, end)]
