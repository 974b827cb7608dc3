"""Differences between two classifiers in accuracy, macro F1 and error at a coverage, with paired bootstrap intervals.

Both classifiers are looked at on the same resampled images, so that what is hard for both cancels out. Where images
belong together, whole groups are drawn.

Shapes: N images, B resamples, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Metric
from sortal.evaluate.measure.intervals import RESAMPLES, percentiles
from sortal.evaluate.measure.metrics import ClassCounts, averages

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one classifier said about N images with labels: class indices, and the probability of each answer."""

    index: Ints
    probability: Floats


def bootstrap_differences(
    labels: Ints,
    first: Answers,
    second: Answers,
    *,
    classes: int,
    confidence: float = 0.95,
    coverage: float = 0.9,
    groups: Ints | None = None,
    seed: int = 0,
    count: int = RESAMPLES,
) -> dict[str, Metric]:
    """Second minus first: `accuracy_difference`, `macro_f1_difference` and `error_at_coverage_difference`.

    The last is the share of wrong answers among the `coverage` of images (0 to 1) whose answers are surest, each
    classifier choosing its own. Intervals are percentiles of `count` resamples of images, or of groups where `groups`
    (N,) says what belongs together. Efron and Tibshirani (1993), "An introduction to the bootstrap".
    """
    pair = [_Scored(labels, answers, classes, coverage) for answers in (first, second)]
    names = ("accuracy", "macro_f1", "error_at_coverage")
    seen = [scored.scores(np.ones((1, len(labels)), np.int64)) for scored in pair]
    drawn: dict[str, list[Floats]] = {name: [] for name in names}
    for weights in image_weights(len(labels), groups, seed=seed, count=count):
        before, after = (scored.scores(weights) for scored in pair)
        for name in names:
            drawn[name].append(after[name] - before[name])
    found = {}
    for name in names:
        low, high = percentiles(np.concatenate(drawn[name]), confidence)
        gap = float(seen[1][name][0] - seen[0][name][0])
        found[f"{name}_difference"] = Metric(value=gap, low=low, high=high, n=len(labels))
    return found


def image_weights(n: int, groups: Ints | None, *, seed: int, count: int) -> Iterator[Ints]:
    """How often each of N images is in each resample, (B, N), in blocks that fit in memory; whole groups are drawn."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    member = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(member.max()) + 1 if n else 0
    block = max(1, _CELLS_AT_ONCE // max(n, 1))
    for start in range(0, count, block):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=min(block, count - start))
        yield drawn[:, member]


class _Scored:
    """One classifier's answers, sorted once so that every resample is a few sums."""

    def __init__(self, labels: Ints, answers: Answers, classes: int, coverage: float):
        self._right = labels == answers.index
        self._keys = {"true": labels, "answered": answers.index, "hits": np.where(self._right, labels, -1)}
        self._classes, self._coverage = classes, coverage
        self._surest = np.argsort(-answers.probability, kind="stable")

    def scores(self, weights: Ints) -> dict[str, Floats]:
        """Each (B,) for weights (B, N)."""
        sums = {name: _sum_by(weights, key, self._classes) for name, key in self._keys.items()}
        counts = ClassCounts(hits=sums["hits"], true=sums["true"], answered=sums["answered"])
        total = np.maximum(weights.sum(axis=1), 1)
        return {
            "accuracy": weights @ self._right / total,
            "macro_f1": averages(counts)["macro"]["f1"],
            "error_at_coverage": self._error(weights, total),
        }

    def _error(self, weights: Ints, total: Ints) -> Floats:
        """Wrong share of the surest images; the last one enters by the part of it that fills the coverage."""
        ordered = weights[:, self._surest]
        wanted = self._coverage * total[:, None]
        before = np.cumsum(ordered, axis=1) - ordered
        kept = np.clip(wanted - before, 0, ordered)
        error: Floats = kept @ ~self._right[self._surest] / np.maximum(kept.sum(axis=1), 1e-12)
        return error


def _sum_by(weights: Ints, key: Ints, classes: int) -> Ints:
    """Sum columns (B, N) that share a key (-1: none) into (B, classes)."""
    order = np.argsort(key, kind="stable")
    order = order[key[order] >= 0]
    sums = np.zeros((len(weights), classes), np.int64)
    if len(order):
        found, starts = np.unique(key[order], return_index=True)
        sums[:, found] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums
