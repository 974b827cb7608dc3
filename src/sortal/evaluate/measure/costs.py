"""What mistakes cost: the mean cost of an image under a matrix of costs, with its interval.

`costs[true][answered]` comes from a contract. What it leaves out costs nothing, nor does a right answer unless it says
so, nor an image that is left to a person: that price is what the contract's coverage is about.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.core.report import Metric
from sortal.evaluate.measure.grouped import Floats, Sample, statistic_interval

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def cost_matrix(costs: Mapping[str, Mapping[str, float]], labels: LabelSet) -> Floats:
    """(C, C), true class in rows. Raises DataError that names a class that is not known."""
    found = np.zeros((len(labels), len(labels)))
    for true, answers in costs.items():
        for answered, cost in answers.items():
            found[labels.index(true), labels.index(answered)] = cost
    return found


def image_costs(matrix: Floats, labels: Ints, index: Ints, abstained: Bools) -> Floats:
    """(N,) the cost of each answer, 0 where it is left to a person."""
    cost: Floats = np.where(abstained, 0.0, matrix[labels, index])
    return cost


def cost_metric(sample: Sample, costs: Floats, largest: float, weights: Floats | None = None) -> Metric:
    """Mean of the costs (N,), which run from 0 to `largest`; `weights` (N,) with mean 1 stand for a prevalence.

    A mistake that is dear and was never seen is not in the interval, except where none at all was seen.
    """
    n = len(costs)
    share = np.ones(n) if weights is None else weights
    mean = float((share * costs).sum() / share.sum())
    influence = share * (costs - mean) / share.sum()
    low, high = statistic_interval(sample, mean, influence, bounds=(0.0, max(largest, 1e-12)), counted=share, mean=True)
    return Metric(value=mean, low=low, high=high, n=n)
