"""Do two sets of rows differ? Classical tests on plain arrays, each with its p-value and a size that has a meaning.

NumPy only; the tails of the distributions are our own, checked against SciPy in the tests.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_EXPECTED = 5.0
"""Cells below this many expected are pooled: the chi-square distribution does not hold for them."""


def kolmogorov_smirnov(one: Floats, other: Floats) -> tuple[float, float]:
    """The largest distance between the two distribution functions (0 to 1), and its two-sided p.

    The p is Kolmogorov's limit with the correction of Stephens (1970), "Use of the Kolmogorov-Smirnov, Cramer-von Mises
    and related statistics without extensive tables"; with ties it is too large, never too small.
    """
    one, other = np.sort(one), np.sort(other)
    if not len(one) or not len(other):
        return 0.0, 1.0
    at = np.concatenate([one, other])
    below_one = np.searchsorted(one, at, side="right") / len(one)
    below_other = np.searchsorted(other, at, side="right") / len(other)
    distance = float(np.abs(below_one - below_other).max())
    root = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    return distance, kolmogorov_tail((root + 0.12 + 0.11 / root) * distance)


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution."""
    if x < 0.2:
        return 1.0  # the series alternates too slowly there; the value is 1 to 12 digits
    terms = [(-1.0) ** (k - 1) * math.exp(-2.0 * k * k * x * x) for k in range(1, 101)]
    return min(1.0, max(0.0, 2.0 * sum(terms)))


def chi_square(one: Floats, other: Floats) -> tuple[float, float]:
    """Half the summed differences of the shares (0: alike, 1: nothing in common) of counts (K,), and the p of
    Pearson's test that both come from the same shares. Cells with few images count together."""
    total = one + other
    if one.sum() == 0 or other.sum() == 0:
        return 0.0, 1.0
    distance = 0.5 * float(np.abs(one / one.sum() - other / other.sum()).sum())
    small = total * min(one.sum(), other.sum()) / total.sum() < _LEAST_EXPECTED
    cells = np.stack([np.append(counts[~small], counts[small].sum()) for counts in (one, other)])
    cells = cells[:, cells.sum(0) > 0]
    if cells.shape[1] < 2:
        return distance, 1.0
    expected = np.outer(cells.sum(1), cells.sum(0)) / cells.sum()
    statistic = float((np.square(cells - expected) / expected).sum())
    return distance, chi_square_tail(statistic, cells.shape[1] - 1)


def chi_square_tail(x: float, freedom: int) -> float:
    """P(X > x) of the chi-square distribution: the regularized upper incomplete gamma function of (freedom / 2, x / 2).

    By its power series below the mean and by the continued fraction above it (Abramowitz and Stegun 6.5.29, 6.5.31).
    """
    a, x = freedom / 2.0, x / 2.0
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        term = total = 1.0 / a
        n = a
        while term > total * 1e-16:
            n += 1.0
            term *= x / n
            total += term
        return max(0.0, 1.0 - scale * total)
    b = x + 1.0 - a
    c, d = 1e300, 1.0 / b
    fraction = d
    for i in range(1, 10_000):
        numerator = -i * (i - a)
        b += 2.0
        d = 1.0 / (numerator * d + b)
        c = b + numerator / c
        fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return min(1.0, scale * fraction)


def area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """The chance that a positive row scores above a negative one (ties count half), and its standard error.

    Hanley and McNeil (1982), "The meaning and use of the area under a receiver operating characteristic curve".
    """
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return 0.5, 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    area = (float(ranks[positive].sum()) - ones * (ones + 1) / 2.0) / (ones * zeros)
    both_above, one_above = area / (2.0 - area), 2.0 * area * area / (1.0 + area)
    variance = area * (1 - area) + (ones - 1) * (both_above - area**2) + (zeros - 1) * (one_above - area**2)
    return area, math.sqrt(max(variance, 0.0) / (ones * zeros))


def normal_tail(z: float) -> float:
    """P(|Z| > z) of the standard normal distribution."""
    return math.erfc(abs(z) / math.sqrt(2.0))
