"""Confidence intervals for shares and for averages over classes. Arrays in, numbers out.

A share (accuracy, recall of a class) gets Wilson's interval (`core.shares`). An average over classes gets the
percentile bootstrap, widened where classes without a single error would make it collapse to a point. Exact bounds for
certificates are not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.shares import wilson as wilson
from sortal.core.shares import z_score as z_score

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 1000
_CELLS_AT_ONCE = 2_000_000


def mean_interval(value: Floats, low: Floats, high: Floats) -> tuple[float, float]:
    """Interval of the mean of independent estimates that each have an interval of their own.

    Zou and Donner (2008), "Construction of confidence limits about effect measures", recover the variance from the
    distance of each end to its estimate, which keeps the asymmetry of Wilson's interval near 0 and 1.
    """
    return weighted_mean_interval(value, low, high, np.full(len(value), 1.0 / max(len(value), 1)))


def weighted_mean_interval(value: Floats, low: Floats, high: Floats, weights: Floats) -> tuple[float, float]:
    """As `mean_interval`, of the sum of weights times estimates; weights sum to 1."""
    below = np.sqrt(np.square(weights * (value - low)).sum())
    above = np.sqrt(np.square(weights * (high - value)).sum())
    center = float((weights * value).sum())
    return max(0.0, center - float(below)), min(1.0, center + float(above))


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Counts of each class in B resamples of the evaluated images, each (B, C)."""

    hits: Ints
    true: Ints
    answered: Ints


def resamples(confusion: Ints, *, seed: int = 0, count: int = RESAMPLES) -> Iterator[Resampled]:
    """Bootstrap resamples of the images behind a confusion matrix (C, C), in blocks that fit in memory.

    Drawing N images with replacement and counting cells is drawing cell counts from a multinomial, so only the
    occupied cells are drawn: exact, and independent of the number of images.
    """
    rows, columns = np.nonzero(confusion)
    cells = confusion[rows, columns]
    total = int(cells.sum())
    generator = np.random.Generator(np.random.Philox(key=seed))
    block = max(1, _CELLS_AT_ONCE // max(len(cells), 1))
    for start in range(0, count, block):
        drawn = generator.multinomial(total, cells / total, size=min(block, count - start))
        yield Resampled(
            hits=_sum_by(drawn * (rows == columns), rows, len(confusion)),
            true=_sum_by(drawn, rows, len(confusion)),
            answered=_sum_by(drawn, columns, len(confusion)),
        )


def percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    """The central `confidence` share of B bootstrap values."""
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def _sum_by(drawn: Ints, key: Ints, classes: int) -> Ints:
    """Sum columns (B, K) that share a key into (B, classes)."""
    order = np.argsort(key, kind="stable")
    found, starts = np.unique(key[order], return_index=True)
    sums = np.zeros((len(drawn), classes), np.int64)
    sums[:, found] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return sums
