"""How well a share is known: Wilson's interval for showing, Clopper and Pearson's exact bounds for promising. Arrays
in, numbers out. Averages over classes are `evaluate.measure.intervals`.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sortal.core.incomplete_beta import beta_quantile

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


def exact_upper(hits: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> Floats:
    """One-sided upper bound: the largest share under which `hits` or fewer of `total` have a chance of 1 - confidence.

    Elementwise; 1 where `total` is 0 or all were hits. Never held too seldom, whatever the share and however few the
    images. `hits` and `total` may be fractions (effective sample sizes). Raises ValueError unless 0 <= hits <= total.
    Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    return 1.0 - _exact_lower(*_counts(hits, total, complement=True), confidence)


def exact_lower(hits: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> Floats:
    """One-sided lower bound, the mirror of `exact_upper`: 0 where `total` is 0 or nothing was a hit."""
    return _exact_lower(*_counts(hits, total, complement=False), confidence)


def clopper_pearson(hits: ArrayLike, total: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Low and high ends of the exact two-sided interval, elementwise: each end is a bound at (1 + confidence) / 2."""
    each = (1 + confidence) / 2
    return exact_lower(hits, total, each), exact_upper(hits, total, each)


def z_score(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for 0.95. Raises ValueError unless 0 < confidence < 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _counts(hits: ArrayLike, total: ArrayLike, *, complement: bool) -> tuple[Floats, Floats]:
    k, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(total, np.float64))
    if not ((k >= 0) & (k <= n)).all():
        raise ValueError("hits must lie between 0 and the total")
    return (n - k if complement else k), n


def _exact_lower(k: Floats, n: Floats, confidence: float) -> Floats:
    """The beta quantile (k, n - k + 1) at 1 - confidence; with all hits it is (1 - confidence) ** (1 / n)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    found = np.zeros(k.shape)
    some, all_hits = (k > 0) & (k < n), (k > 0) & (k == n)
    found[all_hits] = (1 - confidence) ** (1 / n[all_hits])
    pairs, back = np.unique(np.stack([k[some], n[some]], axis=1), axis=0, return_inverse=True)
    found[some] = beta_quantile(1 - confidence, pairs[:, 0], pairs[:, 1] - pairs[:, 0] + 1)[back.ravel()]
    return found
