"""Whether the images of a slice are surely weaker than the others, and Holm's correction for asking about many.

Independent images: Fisher's exact test, one-sided. Groups: the difference of the two shares over its standard error
from the groups' influences, by Student's t with as many degrees of freedom as groups carry the spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sortal.evaluate.measure.grouped import Bools, Sample, student_t_tail


def weaker_p(sample: Sample, right: Bools, inside: Bools) -> float:
    """One-sided p-value of the share of `right` (N,) being lower among the images `inside` (N,) than among the rest."""
    if sample.groups is None:
        hits, count = int(right[inside].sum()), int(inside.sum())
        return fisher_less(hits, count, int(right.sum()), len(right))
    here, there = float(right[inside].mean()), float(right[~inside].mean())
    if here >= there:
        return 1.0
    influence = np.where(inside, (right - here) / inside.sum(), -(right - there) / (~inside).sum())
    sums = np.bincount(sample.groups, influence)
    groups, second = sample.independent, float(np.square(sums).sum())
    if not second:
        return 1.0
    kurtosis = groups * float((sums**4).sum()) / second**2
    carried = min(max(groups / max(kurtosis - 1.0, 1e-9), 1.0), groups - 1.0)
    return student_t_tail((there - here) / math.sqrt(second * groups / (groups - 1)), carried)


def fisher_less(hits: int, drawn: int, good: int, total: int) -> float:
    """Chance of at most `hits` good ones among `drawn` of `total` that hold `good`: the lower hypergeometric tail."""
    low = max(0, drawn - (total - good))
    counts = np.arange(low, hits + 1)
    logs = [_log_choose(good, k) + _log_choose(total - good, drawn - k) for k in counts.tolist()]
    if not logs:
        return 0.0
    every = _log_choose(total, drawn)
    return min(1.0, float(np.exp(np.array(logs) - every).sum()))


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down method, in their order; at most 1."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def _log_choose(total: int, drawn: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(drawn + 1) - math.lgamma(total - drawn + 1)
