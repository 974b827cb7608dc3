"""Prediction sets: instead of one answer the classes that cannot be ruled out, with the right one among them as often
as asked for.

Split conformal prediction with the score 1 - probability of the true class (Sadinle, Lei and Wasserman 2019, "Least
ambiguous set-valued classifiers"): of all sets that reach the level these are the smallest on average, and they reach
it without being larger than needed; adaptive sets (APS, RAPS) always hold the answer and so cover more than asked for
wherever the classifier is good. The price: a set may be empty where no class is likely enough.

With `by_class` each class has its own threshold (Mondrian; Vovk 2012) and is covered as often as asked for by itself.

Shapes: n calibration images, N images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError, InputError


@dataclass(frozen=True, kw_only=True)
class ConformalScores:
    """What sets are made by: scores of calibration images that no training saw."""

    scores: NDArray[np.float64]
    """(n,) one minus the probability of the true class."""
    labels: NDArray[np.int64]
    """(n,) that class."""

    def thresholds(self, level: float, classes: int, *, by_class: bool = False) -> NDArray[np.float64]:
        """(C,) scores up to which a class belongs to the set; infinite where a class has too few images for its own.

        Raises InputError unless 0 < `level` < 1.
        """
        if not 0.0 < level < 1.0:
            raise InputError("a level of prediction sets lies between 0 and 1", received=str(level))
        if not by_class:
            return np.full(classes, conformal_quantile(self.scores, level))
        return np.array([conformal_quantile(self.scores[self.labels == index], level) for index in range(classes)])

    def sets(self, probabilities: NDArray[np.float32], level: float, *, by_class: bool = False) -> NDArray[np.bool_]:
        """(N, C) which classes belong to the set of each image, from calibrated probabilities (N, C).

        Rows of NaN become empty sets.
        """
        limits = self.thresholds(level, probabilities.shape[1], by_class=by_class)
        return np.asarray(1.0 - probabilities.astype(np.float64) <= limits)


def conformal_quantile(scores: NDArray[np.float64], level: float) -> float:
    """The k-th smallest of n scores, k = ceil((n + 1) * level); infinite where k > n: so few images promise nothing."""
    place = math.ceil((len(scores) + 1) * level - 1e-9)
    return math.inf if place > len(scores) else float(np.partition(scores, place - 1)[place - 1])


def conformal_scores(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> ConformalScores:
    """From calibrated probabilities (n, C) and true classes (n,)."""
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return ConformalScores(scores=1.0 - own, labels=labels.astype(np.int64))


def conformal_arrays(scores: ConformalScores) -> dict[str, NDArray[Any]]:
    """As a bundle's reference keeps them."""
    return {"scores": scores.scores, "labels": scores.labels}


def read_conformal(arrays: Mapping[str, NDArray[Any]], *, classes: int) -> ConformalScores | None:
    """From a reference; None where it has none. Raises BundleError where they do not fit each other."""
    if "scores" not in arrays or "labels" not in arrays:
        return None
    scores, labels = arrays["scores"], arrays["labels"]
    if scores.shape != labels.shape or scores.ndim != 1 or (len(labels) and int(labels.max()) >= classes):
        raise BundleError("the scores for prediction sets do not fit the classes", where="reference")
    return ConformalScores(scores=scores.astype(np.float64), labels=labels.astype(np.int64))
