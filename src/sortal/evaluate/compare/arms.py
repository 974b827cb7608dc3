"""Two arms of production held against each other: what each answered, how quickly, and how often it was right.

Arrays in, numbers out. A shadow and the live classifier answered the same images, so they are paired (`paired`); a
canary answered other images than the live one, drawn by chance, so shares and latencies are compared as two samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.core.shares import wilson, z_score
from sortal.evaluate.latency import percentile_bounds

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Verdict = Literal["better", "worse", "as good", "undecided"]
Interval = tuple[float, float]

PLACES = {"p50": 0.5, "p99": 0.99}
"""Where latencies are compared."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one classifier did."""

    answers: int
    """Images that it answered."""
    answered: int
    """Of these, not left to a person."""
    milliseconds: Floats
    """(N,) latency of each answer where it is known."""
    right: Bools
    """(M,) whether it named the class that people did, one an image that has a label."""

    @property
    def hits(self) -> int:
        """Labelled images that it was right about."""
        return int(self.right.sum())


def unpaired_difference(live: Arm, other: Arm, confidence: float) -> tuple[float, Interval]:
    """Accuracy of the other one minus that of the live one, on images of each its own, with an interval.

    Newcombe (1998), "Interval estimation for the difference between independent proportions", method 10: two Wilson
    intervals joined. (0, (-1, 1)) where one of the two has no labels.
    """
    n, m = live.right.size, other.right.size
    if not n or not m:
        return 0.0, (-1.0, 1.0)
    a, b = live.hits / n, other.hits / m
    (low_a, high_a), (low_b, high_b) = (_wilson(arm, confidence) for arm in (live, other))
    return b - a, (b - a - math.hypot(b - low_b, high_a - a), b - a + math.hypot(high_b - b, a - low_a))


def labels_needed(live: Arm, other: Arm, gap: float, *, confidence: float, power: float = 0.8) -> tuple[int, int]:
    """About how many labelled images of the live and of the other arm would show a true gap in accuracy of `gap` with
    a chance of `power`, where labels come as they did here: two samples, the normal approximation.

    Fleiss, Levin and Paik (2003), "Statistical Methods for Rates and Proportions", section 4.3, unequal sizes.
    """
    n, m = live.right.size, other.right.size
    share = (live.hits + other.hits + 1) / (n + m + 2)
    ratio = (n + 1) / (m + 1)  # so many labels of the live arm come with one of the other
    low = min(max(share - gap / 2, 0.0), 1 - gap)
    high = low + gap
    middle = (ratio * low + high) / (ratio + 1)
    reach = z_score(confidence) * math.sqrt(middle * (1 - middle) * (1 + 1 / ratio))
    reach += NormalDist().inv_cdf(power) * math.sqrt(low * (1 - low) / ratio + high * (1 - high))
    needed = math.ceil((reach / gap) ** 2)
    return math.ceil(ratio * needed), needed


def slower(live: Arm, other: Arm, ratio: float, confidence: float) -> str | None:
    """The place at which the other one's latency is surely above `ratio` times that of the live one; None without.

    The bound of each percentile, at a confidence that both hold together, by the order of the values.
    """
    each = 1 - (1 - confidence) / (2 * len(PLACES))
    for name, place in PLACES.items():
        if live.milliseconds.size and other.milliseconds.size:
            _, above = percentile_bounds(live.milliseconds, place, each)
            below, _ = percentile_bounds(other.milliseconds, place, each)
            if above is not None and below > ratio * above:
                return name
    return None


def verdict(interval: Interval, *, margin: float, slow: bool) -> Verdict:
    """What the interval of the difference in accuracy says; `worse` too where the other one is surely too `slow`.

    `as good`: no difference was shown, and surely it is not worse by `margin` or more.
    """
    low, high = interval
    if slow or high < 0:
        return "worse"
    if low > 0:
        return "better"
    return "as good" if low > -margin else "undecided"


def _wilson(arm: Arm, confidence: float) -> Interval:
    low, high = wilson(arm.hits, arm.right.size, confidence)
    return float(low), float(high)
