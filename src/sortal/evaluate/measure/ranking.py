"""How well probabilities rank the images of a class before all others: average precision and the area under the ROC
curve, one class against the rest, with intervals. Classes without images, or without others, have neither.

Mean average precision is a metric of detection and of several labels an image; here, with one label an image, it is
reported beside the averages and never leads. Both are as in scikit-learn (`average_precision_score`, `roc_auc_score`),
equal scores included. Intervals come from influences (DeLong et al. 1988 for the ROC; Obuchowski 1997 with groups)
and Student's t: by the normal quantile, an area of 0.96 with 10 positives was held in 83 % of simulations, not 93 %.

Shapes: N images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.measure.grouped import Interval, Sample, statistic_interval
from sortal.evaluate.measure.intervals import mean_interval

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One measure of ranking: its value by class (C,), NaN where there is none, its interval by class, and the mean
    over the classes that have one, with its interval."""

    values: Floats
    low: Floats
    high: Floats
    mean: float | None
    interval: Interval

    @property
    def defined(self) -> Bools:
        """(C,) classes with a value."""
        return ~np.isnan(self.values)


def average_precision(scores: Scores, positive: Bools) -> tuple[float, Floats]:
    """Average precision of scores (N,) for the images `positive` (N,), and the influence (N,) of each image on it.

    The sum over thresholds of precision times the recall gained. NaN without positives.
    """
    if not positive.any():
        return float("nan"), np.zeros(len(scores))
    order, ends = _tie_ends(scores)
    right = positive[order].astype(np.float64)
    precision = (np.cumsum(right) / np.arange(1, len(right) + 1))[ends]
    above = (ends + 1).astype(np.float64)
    total = right.sum()
    value = float((right * precision).sum() / total)
    starts = np.searchsorted(ends, ends, side="left")  # an image counts for all with an equal score
    gained, lost = (_from_here_down(right * part, starts) for part in (1 / above, precision / above))
    influence = np.empty(len(scores))
    influence[order] = (right * (precision - value) + right * gained - lost) / total
    return value, influence


def roc_auc(scores: Scores, positive: Bools) -> tuple[float, Floats]:
    """Area under the ROC curve: the share of pairs of a positive and another image that are ranked right, equal scores
    counting half; and the influence (N,) of each image on it. NaN where either kind is absent."""
    if not positive.any() or positive.all():
        return float("nan"), np.zeros(len(scores))
    own, others = np.sort(scores[positive]), np.sort(scores[~positive])
    influence = np.empty(len(scores))
    below = (np.searchsorted(others, scores, side="left") + np.searchsorted(others, scores, side="right")) / 2
    under = (np.searchsorted(own, scores, side="left") + np.searchsorted(own, scores, side="right")) / 2
    value = float(below[positive].sum() / len(own) / len(others))
    influence[positive] = (below[positive] / len(others) - value) / len(own)
    influence[~positive] = (1 - under[~positive] / len(own) - value) / len(others)
    return value, influence


def one_vs_rest(sample: Sample, probabilities: Scores, labels: Ints, *, measure: str) -> Ranked:
    """`measure` ("average_precision" or "roc_auc") of every class against the rest, and its mean over classes.

    The mean's interval also spans the mean of the classes' own ones, so that classes ranked without a fault do not
    make it collapse.
    """
    compute = {"average_precision": average_precision, "roc_auc": roc_auc}[measure]
    classes = probabilities.shape[1]
    values, low, high = (np.full(classes, np.nan) for _ in range(3))
    influence = np.zeros(len(labels))
    for index in range(classes):
        positive = labels == index
        values[index], part = compute(probabilities[:, index], positive)
        if not np.isnan(values[index]):
            counted = positive if measure == "average_precision" else None
            low[index], high[index] = statistic_interval(sample, float(values[index]), part, counted=counted)
            influence += part
    known = ~np.isnan(values)
    if not known.any():
        return Ranked(values=values, low=low, high=high, mean=None, interval=(0.0, 1.0))
    mean = float(values[known].mean())
    ends = statistic_interval(sample, mean, influence / known.sum())
    floor = mean_interval(values[known], low[known], high[known])
    interval = (min(ends[0], floor[0]), max(ends[1], floor[1]))
    return Ranked(values=values, low=low, high=high, mean=mean, interval=interval)


def _tie_ends(scores: Scores) -> tuple[Ints, Ints]:
    """Order of the scores, highest first, and for each place in it the last place with an equal score."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    return order, last[np.searchsorted(last, np.arange(len(ordered)))]


def _from_here_down(values: Floats, starts: Ints) -> Floats:
    """Sum of values from the first place with an equal score to the last place of all."""
    tail = np.append(np.cumsum(values[::-1])[::-1], 0.0)
    return tail[starts]
