"""Bursts: pictures of one object, one shelf, one session. On two sides of a split they make a result flatter.

Two signs. Pictures next to each other in file order or time that are more alike than pictures of one class are
elsewhere; and, in whatever order they lie, pictures of one class that are alike as only pictures of one scene are. How
alike that is, is read from the data: a threshold is the lowest above which at most a tenth of what it takes would be
taken by chance too (the false discovery rate by decoys: Elias and Gygi 2007). The decoys of neighbors are random pairs
of the same class; those of scenes are the pairs that are as far below the middle as the others are above it. Likeness
is that of what sets pictures apart from the mean of their class. Where
neighbors are no more alike than others, the order says nothing and there are no bursts.

Scenes that would take in most of a data set are no sign of anything by themselves: one shelf in five pictures and one
product in five copies look the same to a network. They are kept apart as `alike`: a split may keep them together, but
of no single image it is said that it was taken together with others.

Shapes: N rows, P pairs, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Finding
from sortal.data.candidates import Floats, Ints, products
from sortal.data.leaks import shared
from sortal.data.linkage import average_linkage
from sortal.data.near import layout
from sortal.data.sequences import neighbors
from sortal.data.survey import Survey
from sortal.data.table import ImageTable, finding
from sortal.data.units import ALIKE, together

FALSE_SHARE = 0.1
"""Share of what is taken for one burst that may be chance."""
LEAST_PAIRS = 20
"""Pairs above a threshold below which it is not believed."""
LEAST_CLASS = 6
"""Images of a class from which its own pairs say what is usual."""
WHOLE_CLASS = 2000
"""Images of a class up to which all its pairs are compared; of a larger one parts of this size, in order."""
MOST_SHARE = 0.5
"""Share of the images with a class up to which likeness alone tells scenes; above it is how these pictures are."""
SAY_GROUPS = "if images of one object, lot or day belong together, say which: --group 'lot_(\\d+)', or a column"
DECOYS = 200_000
MOST_PAIRS = 20_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Bursts:
    """Which rows were taken together, and the evidence in words."""

    burst: Ints
    """(N,) the lowest row of the burst, -1 for rows in none."""
    evidence: tuple[str, ...]
    alike: Ints
    """(N,) the lowest row of what may be scenes, -1 for rows in none; only where they would be more than MOST_SHARE of
    the rows with a class, so that scenes cannot be told from one kind of thing."""

    def findings(self, table: ImageTable) -> tuple[Finding, ...]:
        """Findings `bursts` and `alike_throughout`, where there are any."""
        kept = (
            "what is alike is kept on one side; where that is one kind of product the test is harder than production: "
        )
        return (*self._bursts(table), *self.throughout(table, hint=f"{kept}leave --model away, and give --group"))

    def throughout(self, table: ImageTable, *, hint: str = SAY_GROUPS) -> tuple[Finding, ...]:
        """Finding `alike_throughout`: what looks alike is most of the images. It names none of them."""
        members = self.alike >= 0
        if not members.any():
            return ()
        sets, classified = len(np.unique(self.alike[members])), int((table.label_array() >= 0).sum())
        across = int(shared(together(table, alike=self.alike), ALIKE).sum())
        message = (
            f"pictures look alike throughout: to a network {int(members.sum()):,} of {classified:,} images are in "
            f"{sets:,} sets of a kind{f' ({across:,} in sets across splits)' if across else ''}, so pictures taken "
            "together cannot be told from one kind of product"
        )
        return (finding("alike_throughout", "info", message, (), hint),)

    def _bursts(self, table: ImageTable) -> tuple[Finding, ...]:
        members = self.burst >= 0
        if not members.any():
            return ()
        count = len(np.unique(self.burst[members]))
        message = f"{count:,} bursts of pictures taken together ({int(members.sum()):,} images): "
        names = table.name_series().filter(members).head(1000)
        hint = "a split keeps each of them on one side; data.split.near=false does not look for them"
        return (finding("bursts", "info", message + "; ".join(self.evidence), names, hint),)


def find_bursts(table: ImageTable, survey: Survey, features: Floats | None = None) -> Bursts:
    """Bursts among the rows of a table. Rows without a class are in none.

    `features` (N, D) see scenes in any order; without them only neighbors are compared, by their tiny pictures.
    """
    labels = table.label_array()
    vectors = within_class(layout(survey.tiny) if features is None else features, labels)
    links, evidence = _along_orders(table, survey, vectors)
    into, rows, alike = _components(len(table), links), np.arange(len(table)), np.full(len(table), -1)
    if features is not None:
        scenes, words = find_scenes(vectors, labels)
        if (_several(scenes) >= 0).sum() > MOST_SHARE * (labels >= 0).sum():
            alike = _several(scenes)
        else:
            into = _components(len(table), [(rows, into), (rows, scenes)])
            evidence += words
    return Bursts(burst=_several(into), evidence=tuple(evidence), alike=alike)


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
    into = np.arange(len(labels))
    parts = [rows for rows in _class_parts(labels) if len(rows) >= LEAST_CLASS]
    if not parts:
        return into, []
    alike = np.concatenate([_upper(vectors[rows]) for rows in _spread_over(parts)])
    middle = float(np.median(alike))
    above = threshold(alike - middle, middle - alike)
    if above is None:
        return into, []
    for rows in parts:
        into[rows] = rows[average_linkage(vectors[rows] @ vectors[rows].T, middle + above)]
    share = float((alike >= middle + above).mean())
    return into, [f"by what a network sees, {share:.0%} of the pairs of a class are of one scene"]


def _several(into: Ints) -> Ints:
    """(N,) the numbers of sets of at least two rows, -1 for the others."""
    return np.where(np.bincount(into, minlength=len(into))[into] > 1, into, -1)


def _along_orders(table: ImageTable, survey: Survey, vectors: Floats) -> tuple[list[tuple[Ints, Ints]], list[str]]:
    labels, links, evidence = table.label_array(), [], []
    for order in neighbors(table, survey):
        kept = labels[order.first] >= 0
        first, second = order.first[kept], order.second[kept]
        found, decoys = products(vectors, first, second), products(vectors, *_random_pairs(labels, first))
        least = threshold(found, decoys)
        if least is None:
            continue
        alike = found >= least
        links.append((first[alike], second[alike]))
        taken, chance = float(alike.mean()), float((decoys >= least).mean())
        words = f"{taken:.0%} of neighbors are more alike than all but {chance:.1%} of the pairs of their class"
        evidence.append(f"by {order.words}, {words}")
    return links, evidence


def _random_pairs(labels: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Decoys: `rows` (P,), each with random other rows of its class."""
    generator = np.random.Generator(np.random.Philox(key=0))
    known = np.flatnonzero(labels >= 0)
    order = known[np.argsort(labels[known], kind="stable")]
    counts = np.bincount(labels[known], minlength=1)
    starts = np.cumsum(counts) - counts
    first = np.tile(rows, max(1, min(40, DECOYS // max(len(rows), 1))))
    second = order[starts[labels[first]] + generator.integers(0, counts[labels[first]])]
    return first[first != second], second[first != second]


def threshold(found: NDArray[np.floating[Any]], decoys: NDArray[np.floating[Any]]) -> float | None:
    """The lowest value above which decoys are at most FALSE_SHARE as frequent as what was found; None where there is
    none, or too little above it."""
    if len(found) < LEAST_PAIRS or not len(decoys):
        return None
    levels = np.unique(np.quantile(found, np.linspace(0.0, 1.0, 400)))
    above = 1 - np.searchsorted(np.sort(found), levels) / len(found)
    chance = 1 - np.searchsorted(np.sort(decoys), levels) / len(decoys)
    fits = (chance <= FALSE_SHARE * above) & (above * len(found) >= LEAST_PAIRS)
    return float(levels[np.argmax(fits)]) if fits.any() else None


def _upper(vectors: Floats) -> Floats:
    """Likeness of all pairs."""
    return np.asarray((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)])


def _spread_over(parts: list[Ints]) -> list[Ints]:
    """Parts whose pairs are enough to find a threshold, spread over all classes."""
    return parts[:: max(1, sum(len(rows) ** 2 for rows in parts) // MOST_PAIRS)]


def _class_parts(labels: Ints) -> Iterator[Ints]:
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
    for start, end in pairwise(ends.tolist()):
        for part in range(start, end, WHOLE_CLASS):
            yield order[part : min(part + WHOLE_CLASS, end)]


def _components(count: int, links: list[tuple[Ints, Ints]]) -> Ints:
    """(N,) the lowest row that each row is linked with, also by way of others."""
    into = np.arange(count)
    if not links:
        return into
    first, second = (np.concatenate(side) for side in zip(*links, strict=True))
    while True:
        before = into.copy()
        low = np.minimum(into[first], into[second])
        np.minimum.at(into, into[first], low)
        np.minimum.at(into, into[second], low)
        into = into[into]
        if np.array_equal(into, before):
            return into
