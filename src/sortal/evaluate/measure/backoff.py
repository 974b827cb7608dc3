"""What backing off to the family brings: how many images are answered at which level, and how many wrongly.

A lower threshold answers more, a higher one errs less; the curve says by how much. Backing off itself is
`core.backoff`.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.backoff import COARSE, FINE, PERSON, BackedOff, back_off
from sortal.core.report import Metric, Table
from sortal.evaluate.measure.grouped import Sample, share_interval

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

THRESHOLDS = (*(step / 20 for step in range(20)), 0.98, 0.99, 0.995)


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
