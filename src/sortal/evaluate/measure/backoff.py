"""Answer the family when the kind is unsure, and nobody's guess when that is unsure too.

An image is answered with its class where the class's probability is at least a threshold, else with the coarse class
whose members' probabilities together reach it, else it is left to a person. A lower threshold answers more, a higher
one errs less; the curve says by how much. This is the trade of specificity for accuracy of Deng et al. (2012), "Hedging
your bets", with one threshold on calibrated probabilities.

Shapes: N images, C classes, P coarse classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Metric, Table
from sortal.evaluate.measure.grouped import Sample, share_interval
from sortal.evaluate.measure.metrics import sum_to_parents

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

FINE, COARSE, PERSON = 0, 1, 2
"""The levels of an answer, most specific first."""

THRESHOLDS = (*(step / 20 for step in range(20)), 0.98, 0.99, 0.995)


@dataclass(frozen=True, kw_only=True)
class BackedOff:
    """Answers at the level that their probability allows."""

    level: Ints
    """(N,) FINE, COARSE or PERSON."""
    answer: Ints
    """(N,) index of the class (FINE) or of the coarse class (COARSE), -1 for PERSON."""
    probability: NDArray[np.float32]
    """(N,) of that answer; of the best coarse class for PERSON."""


def back_off(probabilities: NDArray[np.float32], parents: Sequence[int], threshold: float) -> BackedOff:
    """Answers from probabilities (N, C); `parents` (C,) are the coarse class of each class. Ties: the lower index.

    The coarse class is the one of the largest sum, which need not be the family of the most probable class.
    """
    coarse = sum_to_parents(probabilities, parents)
    kind, family = probabilities.argmax(axis=1), coarse.argmax(axis=1)
    best, together = probabilities.max(axis=1), coarse.max(axis=1)
    level = np.where(best >= threshold, FINE, np.where(together >= threshold, COARSE, PERSON)).astype(np.int64)
    answer = np.choose(level, [kind, family, np.full(len(kind), -1)]).astype(np.int64)
    return BackedOff(level=level, answer=answer, probability=np.where(level == FINE, best, together))


def backed_off_right(found: BackedOff, labels: Ints, parents: Sequence[int]) -> Bools:
    """(N,) whether the answer is true at its level; False for images left to a person."""
    family = np.asarray(parents)[labels]
    right: Bools = np.where(found.level == FINE, found.answer == labels, found.answer == family)
    right &= found.level != PERSON
    return right


def back_off_metrics(
    sample: Sample, probabilities: NDArray[np.float32], labels: Ints, parents: Sequence[int], threshold: float
) -> dict[str, Metric]:
    """Shares answered by class, by coarse class and by a person, and the share of wrong among the answered."""
    found = back_off(probabilities, parents, threshold)
    wrong = ~backed_off_right(found, labels, parents)
    answered = found.level != PERSON
    metrics = {
        f"back_off_{name}": _share(sample, found.level == level)
        for name, level in (("fine", FINE), ("coarse", COARSE), ("person", PERSON))
    }
    metrics["back_off_error"] = _share(sample, wrong, answered)
    return metrics


def back_off_curve(sample: Sample, probabilities: NDArray[np.float32], labels: Ints, parents: Sequence[int]) -> Table:
    """One row a threshold: shares answered by class and by coarse class and left to a person, and the error of the
    answered with its interval, None where nothing is answered."""
    rows = []
    for threshold in THRESHOLDS:
        metrics = back_off_metrics(sample, probabilities, labels, parents, threshold)
        shares = [metrics[f"back_off_{name}"].value for name in ("fine", "coarse", "person")]
        error = metrics["back_off_error"]
        rows.append((threshold, *shares, error.value, error.low, error.high))
    columns = ("threshold", "fine_share", "coarse_share", "person_share", "error", "error_low", "error_high")
    return Table(columns=columns, rows=tuple(rows))


def _share(sample: Sample, hits: Bools, members: Bools | None = None) -> Metric:
    n = len(hits) if members is None else int(members.sum())
    if not n:
        return Metric(value=None, n=0)
    inside = hits if members is None else hits & members
    low, high = share_interval(sample, inside, members)
    return Metric(value=float(inside.sum()) / n, low=low, high=high, n=n)
