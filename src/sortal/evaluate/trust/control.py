"""Learn then test: how far down a list of answers one may go so that few mistakes are promised, not only observed.

Angelopoulos et al. (2021), "Learn then test: calibrating predictive algorithms to achieve risk control": each candidate
threshold is a hypothesis "too many mistakes", its p-value is the exact binomial tail, and the candidates are tested in
an order that was fixed beforehand, so that testing many costs nothing. The order is from few answers to many. As the
surest answers of all may be wrong by a wrong label, the chain begins at several places that share the level (the
fallback procedure of Wiens and Dmitrienko 2005).

Where images come in groups or count unequally, the tail is taken at the number of independent images that would be as
informative, the least of three: what the spread between groups gives, what the correlation of mistakes within groups
over all images gives, and what unequal weights leave (Kish 1965). Exact without both; with them checked by simulation
(tests/numeric/test_control.py).

Shapes: N images in the order in which they would be answered, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sortal.core.incomplete_beta import log_beta_cdf

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BORNE = (0, 2, 8)
"""Chains of tests begin where the answers are just enough to bear so many mistakes; they share the level. A chain that
passes hands its share on."""
STEPS = 100
"""Candidates at most; each is a step of the chain."""
_DOUBT = 1.0
"""The correlation of mistakes is drawn towards 1 as by so many groups: unknown where there was hardly a mistake."""
MOST_IMAGES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Answers in order, surest first, and what is known about them."""

    bad: Floats
    """(N,) 1 for a mistake, 0 for none; anything between for costs."""
    weights: Floats | None = None
    """(N,) how much an image counts; None for all the same."""
    groups: Ints | None = None
    """(N,) group numbers; None where images are independent."""
    correlation: float = 0.0
    """Of mistakes within groups; see `correlation`."""

    @property
    def exact(self) -> bool:
        """Whether counts are of independent images that count the same."""
        return self.weights is None and self.groups is None


def tail(hits: Floats, total: Floats, limit: float) -> Floats:
    """Elementwise chance of at most `hits` among `total` if the true share were `limit`: the p-value of "more than
    `limit`". 1 without images. Fractions are allowed."""
    k, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(total, np.float64))
    found = np.ones(k.shape)
    some = k < n
    if not 0.0 < limit < 1.0:
        return found if limit <= 0.0 else np.where(some, 0.0, found)
    if some.any():
        found[some] = np.exp(log_beta_cdf(np.full(int(some.sum()), 1 - limit), (n - k)[some], k[some] + 1))
    return found


def allowed(total: float, limit: float, level: float) -> int:
    """How many mistakes among `total` independent images still promise a share of at most `limit`; -1 for not even
    none."""
    counts = np.arange(int(total) + 1, dtype=np.float64)[: int(limit * total) + 2]
    return int((tail(counts, np.full(len(counts), total), limit) <= level).sum()) - 1


def images_needed(share: float, limit: float, level: float) -> int | None:
    """Independent images from which on an observed `share` of mistakes promises at most `limit`: 149 for none, 2 % and
    0.05. None where no number does."""
    if share >= limit or limit <= 0.0:
        return None
    if limit >= 1.0:
        return 1
    return _least(lambda n: tail(share * n, n, limit) <= level)


def counts_of_prefixes(evidence: Evidence, *, of_all: bool = False) -> tuple[Floats, Floats]:
    """Mistakes and images (N,) each, for the first answer alone, the first two ..., as independent images would count.

    `of_all`: the share of mistakes is that of all N images, not of those answered so far (recall, mean cost).
    """
    bad, n = evidence.bad, len(evidence.bad)
    if evidence.exact:
        return np.cumsum(bad), np.full(n, float(n)) if of_all else np.arange(1.0, n + 1)
    weights = np.ones(n) if evidence.weights is None else evidence.weights
    groups = np.arange(n) if evidence.groups is None else evidence.groups
    sums = _Sums(bad, weights, groups, of_all=of_all)
    share = np.divide(sums.bad, sums.weight, out=np.zeros(n), where=sums.weight > 0)
    some = np.maximum(sums.groups, 2.0)
    spread = (sums.bad_bad - 2 * share * sums.bad_weight + np.square(share) * sums.weight_weight) * some / (some - 1)
    least = np.square(sums.weight) / np.maximum(sums.squares, 1e-300)
    crowd = np.maximum(sums.weight_weight / np.maximum(sums.squares, 1e-300), 1.0)
    size = least / (1 + evidence.correlation * (crowd - 1))
    known = spread > 1e-12 * np.square(sums.weight)
    by_spread = share * (1 - share) * np.square(sums.weight) / np.where(known, spread, 1.0)
    size = np.where(known & (share < 1), np.minimum(size, by_spread), size) * _student_factor(some - 1)
    return share * size, size


def correlation(bad: Floats, groups: Ints) -> float:
    """How alike images of a group (N,) are in being mistaken (N,), 0 to 1: the intraclass correlation by analysis of
    variance (Fisher 1925), drawn towards 1 where few groups have a mistake."""
    n = len(bad)
    _, place = np.unique(groups, return_inverse=True)
    sizes, sums = np.bincount(place).astype(np.float64), np.bincount(place, bad)
    count = len(sizes)
    if count == n or n == 0:
        return 0.0
    if count < 2:
        return 1.0
    means, center = sums / sizes, bad.mean()
    between = (sizes * np.square(means - center)).sum() / (count - 1)
    within = np.square(bad - means[place]).sum() / (n - count)
    usual = (n - np.square(sizes).sum() / n) / (count - 1)
    whole = between + (usual - 1) * within
    found = float(np.clip((between - within) / whole, 0.0, 1.0)) if whole > 0 else 0.0
    telling = float((sums > 0).sum())
    return (telling * found + _DOUBT) / (telling + _DOUBT)


def candidates(scores: Floats) -> tuple[Ints, Floats]:
    """Numbers of answers n that a threshold can lead to, and the thresholds, from scores (N,) in falling order.

    Equal scores are answered together. The threshold lies above the next score, so that the n answers are a sample of
    those above it; all answered is threshold minus infinity.
    """
    count = len(scores)
    ends = np.append(np.flatnonzero(scores[:-1] > scores[1:]) + 1, count) if count else np.zeros(0, np.int64)
    if len(ends) > STEPS:
        wanted = np.round(np.arange(1, STEPS + 1) * count / STEPS)
        ends = ends[np.unique(np.searchsorted(ends, wanted).clip(max=len(ends) - 1))]
    inner = ends[ends < count]
    limits = np.append((scores[inner - 1] + scores[inner]) / 2, [-np.inf] * (len(ends) - len(inner)))
    return ends.astype(np.int64), limits


def worth(evidence: Evidence, *, of_all: bool = False) -> Floats:
    """(N,) how many independent images the first answer, the first two ... are worth as long as none is mistaken."""
    return counts_of_prefixes(replace(evidence, bad=np.zeros(len(evidence.bad))), of_all=of_all)[1]


def furthest(p_values: Floats, sizes: Floats, level: float, limit: float) -> int | None:
    """The candidate (of K) that answers most among those shown to be good, or None; `sizes` (K,) are what each is
    `worth`, in rising order of answers.

    Chance that it is none of the good ones: at most `level`, where mistakes grow as more is answered.
    """
    starts = _starts(np.maximum.accumulate(sizes), level, limit)
    found, left = None, 0.0
    for place, p_value in enumerate(p_values.tolist()):
        left += starts.get(place, 0.0)
        if left > 0.0 and p_value <= left:
            found = place
        else:
            left = 0.0
    return found


def _starts(sizes: Floats, level: float, limit: float) -> dict[int, float]:
    """The candidates at which chains begin, each with its level."""
    total = float(sizes[-1]) if len(sizes) else 0.0
    for count in range(len(BORNE), 0, -1):
        each = level / count
        wanted = [_bearing(hits, limit, each) for hits in BORNE[:count]]
        if wanted[-1] <= total:
            break
    found: dict[int, float] = {}
    for number in wanted:
        place = int(np.searchsorted(sizes, number))
        if place < len(sizes):
            found[place] = found.get(place, 0.0) + each
    return found


@lru_cache(maxsize=256)
def _bearing(hits: int, limit: float, level: float) -> float:
    """How many answers bear so many mistakes."""
    return float(_least(lambda n: tail(np.minimum(float(hits), n), n, limit) <= level) or MOST_IMAGES)


class _Sums:
    """Running sums (N,) over the answers so far, or over all images where shares are of all."""

    def __init__(self, bad: Floats, weights: Floats, groups: Ints, *, of_all: bool):
        order = np.argsort(groups, kind="stable")
        _, place = np.unique(groups, return_inverse=True)
        own = weights * bad
        own_before = _before(own, order, place)
        own_steps = 2 * own_before * own + np.square(own)
        self.bad, self.bad_bad = np.cumsum(own), np.cumsum(own_steps)
        if of_all:
            whole = np.bincount(place, weights)
            self.weight = np.full(len(bad), weights.sum())
            self.squares = np.full(len(bad), np.square(weights).sum())
            self.weight_weight = np.full(len(bad), np.square(whole).sum())
            self.bad_weight = np.cumsum(own * whole[place])
            self.groups = np.full(len(bad), float(len(whole)))
            return
        before = _before(weights, order, place)
        self.weight, self.squares = np.cumsum(weights), np.cumsum(np.square(weights))
        self.weight_weight = np.cumsum(2 * before * weights + np.square(weights))
        self.bad_weight = np.cumsum(own_before * weights + own * before + own * weights)
        first = np.zeros(len(bad))
        first[np.unique(place, return_index=True)[1]] = 1.0
        self.groups = np.cumsum(first)


def _before(values: Floats, order: Ints, place: Ints) -> Floats:
    """(N,) for each answer the sum of `values` over earlier answers of its group."""
    sorted_values = values[order]
    running = np.cumsum(sorted_values) - sorted_values
    heads = np.flatnonzero(np.diff(place[order], prepend=-1))
    base = np.repeat(running[heads], np.diff(np.append(heads, len(values))))
    found = np.empty(len(values))
    found[order] = running - base
    return found


def _student_factor(degrees: Floats) -> Floats:
    """(z / t)² at one-sided 95 %: what not knowing the spread costs; t by the expansion of Cornish and Fisher."""
    z, v = NormalDist().inv_cdf(0.95), np.maximum(degrees, 1.0)
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return np.asarray(np.square(z / t))


def _least(settles: Callable[[Floats], NDArray[np.bool_]]) -> int | None:
    """The smallest number that settles, where all larger ones do too."""
    high = 1
    while not settles(np.array([float(high)]))[0]:
        high *= 2
        if high > MOST_IMAGES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(np.array([float(middle)]))[0] else (middle, high)
    return high
