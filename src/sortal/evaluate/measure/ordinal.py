"""Agreement and graded classes: Cohen's kappa, quadratic-weighted kappa, and how many grades an answer is off.

Kappa is agreement beyond chance: 1 - (disagreement observed) / (disagreement expected from the class sizes and answer
counts alone); with quadratic weights a miss by two grades counts four times a miss by one (Cohen 1960 and 1968). Both
are as in scikit-learn's `cohen_kappa_score`. Grades are the classes in their order.

Shapes: N images, C classes, K grades.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Metric
from sortal.evaluate.measure.grouped import Floats, Sample, statistic_interval
from sortal.evaluate.measure.metrics import confusion

Ints = NDArray[np.int64]


def kappa_weights(classes: int, *, quadratic: bool) -> Floats:
    """(C, C) disagreement of a true class and an answer: 0 or 1, or the squared distance of the grades."""
    steps = np.subtract.outer(np.arange(classes), np.arange(classes)).astype(np.float64)
    return np.square(steps) if quadratic else (steps != 0).astype(np.float64)


def kappa(matrix: Ints, *, quadratic: bool = False) -> float | None:
    """Cohen's kappa of a confusion matrix (C, C), -1 to 1; None where all images and answers are of one class."""
    weights, total = kappa_weights(len(matrix), quadratic=quadratic), matrix.sum()
    if not total:
        return None
    expected = float(matrix.sum(axis=1) @ weights @ matrix.sum(axis=0)) / float(total) ** 2
    return None if not expected else 1.0 - float((weights * matrix).sum()) / float(total) / expected


def kappa_metric(sample: Sample, labels: Ints, index: Ints, classes: int, *, quadratic: bool) -> Metric:
    """Kappa with its interval, from labels and answers (N,).

    The interval is of the observed and expected disagreement together, by the influence of each image on both, and is
    widened to that of the observed one alone, which does not collapse where every answer is right.
    """
    matrix = confusion(labels, index, classes)
    value, n = kappa(matrix, quadratic=quadratic), len(labels)
    if value is None:
        return Metric(value=None, n=n)
    weights = kappa_weights(classes, quadratic=quadratic)
    true, answered = matrix.sum(axis=1) / n, matrix.sum(axis=0) / n
    expected = float(true @ weights @ answered)
    own = weights[labels, index]
    change = (weights @ answered)[labels] + (true @ weights)[index] - 2 * expected
    influence = ((1 - value) * change - (own - own.mean())) / expected / n
    low, high = statistic_interval(sample, value, influence, bounds=(-1.0, 1.0), mean=True)
    largest = float(weights.max())
    ends = statistic_interval(sample, float(own.mean()), (own - own.mean()) / n, bounds=(0.0, largest), mean=True)
    alone = [1.0 - end / expected for end in ends]
    return Metric(value=value, low=max(-1.0, min(low, alone[1])), high=min(1.0, max(high, alone[0])), n=n)


def grade_error_metric(sample: Sample, labels: Ints, index: Ints, grades: int) -> Metric:
    """Mean absolute grade error, 0 to K-1: by how many grades an answer is off on average."""
    off = np.abs(labels - index).astype(np.float64)
    mean = float(off.mean())
    top = float(max(grades - 1, 1))
    low, high = statistic_interval(sample, mean, (off - mean) / len(off), bounds=(0.0, top), mean=True)
    return Metric(value=mean, low=low, high=high, n=len(off))


def as_grades(labels: Ints, index: Ints, order: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Labels and answers (N,) as grades by `order` (K,), the class index of each grade; and which images (N,) are
    about grades at all: those whose label and answer both are one."""
    size = int(max(labels.max(initial=0), index.max(initial=0), order.max(initial=0))) + 1
    place = np.full(size, -1, np.int64)
    place[order] = np.arange(len(order))
    graded = (place[labels] >= 0) & (place[index] >= 0)
    return place[labels], place[index], graded
