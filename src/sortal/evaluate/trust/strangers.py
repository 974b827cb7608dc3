"""What an evaluation says about unknown images: how many known ones were called unknown, how many images of classes
that the classifier does not know were recognized; and whether prediction sets hold their level.

Shapes: N images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions
from sortal.core.report import Metric, Report
from sortal.core.shares import wilson
from sortal.evaluate.measure.ranking import roc_auc
from sortal.evaluate.trust.conformal import judge_sets

LEVEL = 0.9
"""Of the prediction sets that an evaluation judges."""

Bools = NDArray[np.bool_]


def with_unknown(
    report: Report, predictions: Predictions, labels: NDArray[np.int64], foreign: Bools, *, confidence: float = 0.95
) -> Report:
    """The report with `unknown_rate` (known images called unknown), and where images are of classes that the classifier
    does not know (`foreign`, (N,)) with `unknown_found` and `unknown_auroc`; `set_coverage` and `set_size` where there
    are prediction sets. `labels` (N,) are -1 for all images but known ones. As it was where the bundle has neither."""
    readable = predictions.index >= 0
    known, strange = readable & (labels >= 0), readable & foreign
    found = _sets(predictions, labels, known, confidence)
    if predictions.unknown is not None and predictions.unknown_score is not None and known.any():
        found["unknown_rate"] = _share(predictions.unknown[known], confidence)
        if strange.any():
            found["unknown_found"] = _share(predictions.unknown[strange], confidence)
            found["unknown_auroc"] = _auroc(predictions.unknown_score, known, strange)
    return report.model_copy(update={"metrics": {**report.metrics, **found}}) if found else report


def _share(hits: Bools, confidence: float) -> Metric:
    low, high = wilson(int(hits.sum()), len(hits), confidence)
    return Metric(value=float(hits.mean()), low=float(low), high=float(high), n=len(hits))


def _auroc(scores: NDArray[np.float32], known: Bools, strange: Bools) -> Metric:
    rows = known | strange
    value, influence = roc_auc(scores[rows].astype(np.float64), strange[rows])
    half = 1.96 * float(np.sqrt(np.square(influence).sum()))
    return Metric(value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=int(rows.sum()))


def _sets(predictions: Predictions, labels: NDArray[np.int64], known: Bools, confidence: float) -> dict[str, Metric]:
    if predictions.conformal is None or not known.any():
        return {}
    sets = predictions.conformal.sets(predictions.probabilities[known], LEVEL)
    quality = judge_sets(sets, labels[known], level=LEVEL, confidence=confidence)
    return {
        "set_coverage": Metric(value=quality.coverage, low=quality.low, high=quality.high, n=quality.images),
        "set_size": Metric(value=quality.mean_size, n=quality.images),
    }
