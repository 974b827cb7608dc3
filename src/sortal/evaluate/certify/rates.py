"""A rate of something bad (wrong answers, images not answered, misses, cost) with one-sided bounds on it.

Independent images of equal weight: Clopper and Pearson's exact bounds. Weighted classes, groups of images and costs: a
sum of rare events of unequal weight, bounded by the gamma interval of Fay and Feuer (1997), "Confidence intervals for
directly standardized rates". Here an event is a *group*, with the weight of what is bad in it, so that images of one
part may be wrong together; without groups each image is a group, and the interval is theirs.

Their upper bound asks how heavy the next event may be. Within a class that is the fullest group, all bad, until enough
groups were bad to tell: the heaviest one seen, times 1 + 6 / (number of bad groups that count). Found by simulation:
with 4 in place of 6, 5.8 % of classifiers at the limit were certified (100 groups of very unequal sizes, almost always
bad as a whole); with the heaviest seen alone 7.8 %; with the fullest group always, hardly any good one was.
`benchmarks/certify_simulation.py` holds what is here to its 5 %.

Shapes: N units that are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sortal.core.incomplete_beta import log_beta_cdf
from sortal.core.incomplete_gamma import gamma_quantile, log_gamma_cdf
from sortal.core.shares import exact_upper

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WARY = 6.0
"""How many bad groups it takes until the heaviest of them is believed to be half of the heaviest there may be."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often or how much, with what bounds on it need. Better is lower."""

    value: float | None
    """The estimate; None where nothing was counted."""
    count: int
    """Units counted."""
    groups: int | None = None
    """Groups counted, where units come in groups."""
    most: float = 1.0
    """The largest value there can be."""
    hits: float | None = None
    """Bad units, where the exact bounds apply; a fraction after scaling."""
    total: float = 0.0
    """Units that `hits` are of."""
    variance: float = 0.0
    """Sum of the squared weights of bad groups."""
    heaviest: float = 0.0
    """Weight of the heaviest group that may be bad next."""
    unseen: float = 0.0
    """Share of the whole that no unit stands for: classes with a prevalence and without images."""

    def upper(self, confidence: float) -> float:
        """One-sided upper bound: below the truth in at most 1 - confidence of all samples."""
        if self.value is None:
            return self.most
        if self.hits is not None:
            return _exact(self.hits, self.total, confidence)
        mean, variance = self.value + self.heaviest, self.variance + self.heaviest**2
        bound = _gamma(confidence, mean, variance)
        return min(self.most, bound + self.unseen * self.most)

    def lower(self, confidence: float) -> float:
        """One-sided lower bound."""
        if not self.value:
            return 0.0
        if self.hits is not None:
            return 1.0 - _exact(self.total - self.hits, self.total, confidence)
        return min(self.most, _gamma(1 - confidence, self.value, self.variance))

    def stays_below(self, limit: float, confidence: float) -> bool:
        """Whether the upper bound is within the limit; as `upper`, in a fraction of its time."""
        if self.value is None or limit >= self.most:
            return limit >= self.most
        if self.hits is not None:
            return _exact_tail(self.hits + 1, self.total, limit) >= confidence
        left = limit - self.unseen * self.most
        mean, variance = self.value + self.heaviest, self.variance + self.heaviest**2
        return left > 0 and _gamma_tail(mean, variance, left) >= confidence

    def p_below(self, limit: float) -> float:
        """The largest chance of so much that is bad while the truth is within the limit."""
        if not self.value or self.hits == 0:
            return 1.0
        if limit <= 0:
            return 0.0
        if self.hits is not None:
            return _exact_tail(self.hits, self.total, limit)
        return _gamma_tail(self.value, self.variance, limit)

    def scaled(self, factor: float) -> Rate:
        """The same rate, seen on `factor` times as many units."""
        return replace(
            self,
            count=round(self.count * factor),
            hits=None if self.hits is None else self.hits * factor,
            total=self.total * factor,
            variance=self.variance / factor,
            heaviest=self.heaviest / factor,
        )


def rate_of(
    bad: Floats,
    weights: Floats,
    strata: Ints,
    groups: Ints | None,
    *,
    worst: Floats | None = None,
    unseen: float = 0.0,
) -> Rate:
    """The rate of what is `bad` (N,) about units, each from 0 to `worst` (N,; 1 unless given).

    `weights` (N,) are how much a unit stands for, in any unit that `unseen` has too; `strata` (N,) tell classes of
    different weight apart; `groups` (N,) say which units may be bad together, None where each is its own.
    """
    total = float(weights.sum()) + unseen
    if not len(bad) or not total:
        return Rate(value=None, count=0, most=1.0 if worst is None else float(worst.max(initial=0.0)))
    share = weights / total
    limit = np.ones(len(bad)) if worst is None else worst
    together = groups is not None and len(np.unique(groups)) < len(groups)
    codes = np.unique(groups, return_inverse=True)[1] if groups is not None and together else np.arange(len(bad))
    number = int(codes.max()) + 1 if together else None
    even = worst is None and not unseen and bool((share == share[0]).all())
    if even and not together:
        return Rate(value=float(bad.mean()), count=len(bad), hits=float(bad.sum()), total=len(bad))
    events = np.bincount(codes, share * bad)
    wary = worst is None and together
    return Rate(
        value=float(events.sum()),
        count=len(bad),
        groups=number,
        most=float(limit.max()),
        variance=float((events**2).sum()),
        heaviest=max(
            _heaviest(share, bad, limit, codes, strata == stratum, wary=wary) for stratum in np.unique(strata)
        ),
        unseen=unseen / total,
    )


def _heaviest(
    share: Floats, bad: Floats, limit: Floats, codes: Ints, inside: NDArray[np.bool_], *, wary: bool
) -> float:
    """How heavy the next bad group of a stratum may be; with `wary`, what was seen of it counts."""
    fullest = float(np.bincount(codes[inside], (share * limit)[inside]).max())
    events = np.bincount(codes[inside], (share * bad)[inside])
    total, squares = float(events.sum()), float((events**2).sum())
    if not wary or not total:
        return fullest
    return min(fullest, float(events.max()) * (1 + WARY * squares / total**2))


@lru_cache(maxsize=512)
def _exact(hits: float, total: float, confidence: float) -> float:
    return float(exact_upper(hits, total, confidence))


def _exact_tail(hits: float, total: float, limit: float) -> float:
    """P(at least `hits` of `total`) where each is bad with the chance `limit`."""
    if hits > total or limit <= 0:
        return 0.0
    if limit >= 1:
        return 1.0
    a, b = np.array([hits]), np.array([total - hits + 1])
    return float(np.exp(log_beta_cdf(np.array([limit]), a, b))[0])


def _gamma_tail(mean: float, variance: float, limit: float) -> float:
    """P(a gamma variable of this mean and variance is at most `limit`)."""
    shape = np.array([mean**2 / variance])
    return float(np.exp(log_gamma_cdf(np.array([limit * mean / variance]), shape))[0])


@lru_cache(maxsize=512)
def _gamma(share: float, mean: float, variance: float) -> float:
    """A quantile of the gamma distribution with this mean and variance."""
    if not mean:
        return 0.0
    shape = np.array([mean**2 / variance])
    return float(gamma_quantile(share, shape)[0]) * variance / mean
