"""Is one of two classifiers really better on the same images? An exact test, and how many images would show a gap.

Only images on which exactly one of the two is right say anything about the difference. Without groups the test is
McNemar's in its exact form; where images belong together (a part, a patient), whole groups change sides, so that ten
pictures of one part count as one piece of evidence. Arrays in, numbers out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sortal.core.shares import wilson, z_score

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """What N images say about the accuracy of two classifiers."""

    n: int
    better: int
    """Images that the second classifier alone got right."""
    worse: int
    """Images that the first classifier alone got right."""
    p: float
    """Exact two-sided: the chance of a gap at least as large where both are equally good."""
    mid_p: float
    """The same, counting a gap exactly as large by half; less conservative."""
    units: int
    """Groups, or images where there are none, in which the two differ."""

    @property
    def difference(self) -> float:
        """Accuracy of the second minus that of the first; 0 without images."""
        return (self.better - self.worse) / self.n if self.n else 0.0


def paired_test(right_a: Bools, right_b: Bools, groups: Ints | None = None) -> PairedTest:
    """Exact test that two classifiers, right or wrong on the same N images, have the same accuracy.

    Without `groups` this is McNemar's exact test (McNemar 1947; mid-p: Fagerland et al. 2013, "The McNemar test for
    binary matched-pairs data"). With `groups` (N,), whose values say what belongs together, the two answers are
    exchanged group by group: Fisher's randomization test, computed exactly.
    """
    gained = right_b.astype(np.int64) - right_a.astype(np.int64)
    gaps = gained if groups is None else sums_by(gained, groups)
    p, mid_p = sign_test(gaps)
    return PairedTest(
        n=len(gained),
        better=int((gained > 0).sum()),
        worse=int((gained < 0).sum()),
        p=p,
        mid_p=mid_p,
        units=int((gaps != 0).sum()),
    )


def sign_test(gaps: Ints) -> tuple[float, float]:
    """Exact two-sided p and mid-p of sum(gaps) when each of the whole numbers (U,) may have either sign.

    Gaps of equal size add up to a shifted binomial, so the distribution is a convolution of few of them.
    """
    sizes, counts = np.unique(np.abs(gaps[gaps != 0]), return_counts=True)
    chances, reach = np.ones(1), 0
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        one = np.zeros(2 * size * count + 1)
        one[:: 2 * size] = _coin_flips(count)
        chances, reach = np.convolve(chances, one), reach + size * count
    distance = np.abs(np.arange(-reach, reach + 1))
    seen = abs(int(gaps.sum()))
    beyond, equal = float(chances[distance > seen].sum()), float(chances[distance == seen].sum())
    return min(1.0, beyond + equal), min(1.0, beyond + equal / 2)


def images_needed(test: PairedTest, gap: float, *, confidence: float = 0.95, power: float = 0.8) -> int:
    """About how many images would show a true gap in accuracy of `gap` (0 to 1) with a chance of `power`.

    From the share of images on which the two disagree here, at least `gap`. Connett, Smith and McHugh (1987), "Sample
    size and power for pair-matched case-control studies". Images that belong together count for less than one each.
    """
    disagree = max((test.better + test.worse + 1) / (test.n + 2), gap)
    reach = z_score(confidence) * math.sqrt(disagree)
    reach += NormalDist().inv_cdf(power) * math.sqrt(disagree - gap * gap)
    return math.ceil((reach / gap) ** 2)


def difference_interval(test: PairedTest, right_a: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the difference in accuracy of independent images; `right_a` images were right with the first.

    Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: two Wilson intervals joined by the correlation of the two. Does not collapse where both agree.
    """
    n = test.n
    if not n:
        return -1.0, 1.0
    right_b = right_a + test.better - test.worse
    both, neither = right_a - test.worse, n - right_a - test.better
    spread = math.sqrt(float(right_a) * (n - right_a) * right_b * (n - right_b))
    excess = float(both) * neither - float(test.better) * test.worse
    phi = 0.0 if spread == 0 else (max(excess - n / 2, 0.0) if excess > 0 else excess) / spread
    low_a, high_a = (float(end) for end in wilson(right_a, n, confidence))
    low_b, high_b = (float(end) for end in wilson(right_b, n, confidence))
    a, b, gap = right_a / n, right_b / n, test.difference
    below = _joined(b - low_b, high_a - a, phi)
    above = _joined(high_b - b, a - low_a, phi)
    return max(-1.0, gap - below), min(1.0, gap + above)


def sums_by(values: Ints, groups: Ints) -> Ints:
    """Sums of `values` (N,) over equal `groups` (N,), in ascending order of group."""
    _, inverse = np.unique(groups, return_inverse=True)
    return np.bincount(inverse, weights=values).astype(np.int64)


def _coin_flips(count: int) -> Floats:
    """(count + 1,) chances of 0 to `count` heads."""
    heads = np.arange(count + 1)
    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    chances: Floats = np.exp(table[count] - table[heads] - table[count - heads] - count * math.log(2.0))
    return chances


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))
