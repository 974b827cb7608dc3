"""How well a share is known: Wilson's interval, for accuracy, recall of a class, shares of wrong labels. Arrays in,
numbers out. Averages over classes are `evaluate.intervals`.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def wilson(hits: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Low and high ends of the interval for a share of `hits` out of `total`, elementwise, within 0 to 1.

    Where `total` is 0 nothing is known and the interval is 0 to 1. Never collapses: 20 of 20 gives 0.839 to 1.
    Wilson (1927), "Probable inference, the law of succession, and statistical inference"; no continuity correction.
    """
    k, n = np.asarray(hits, np.float64), np.asarray(total, np.float64)
    z2 = z_score(confidence) ** 2
    center = (k + z2 / 2) / (n + z2)
    half = np.sqrt(z2) / (n + z2) * np.sqrt(k * (n - k) / np.maximum(n, 1) + z2 / 4)
    low = np.where(k == 0, 0.0, center - half)
    high = np.where(k == n, 1.0, center + half)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def z_score(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for 0.95. Raises ValueError unless 0 < confidence < 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)
