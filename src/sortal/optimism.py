"""What leaks do to a result, measured: the finished evaluation divided into test images that leaked and clean ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions
from sortal.core.report import Metric, Report
from sortal.data.leaks import Optimism, Part, optimism, optimism_table
from sortal.data.table import ImageTable, finding
from sortal.divide import LEAKED


def with_optimism(report: Report, predictions: Predictions, labels: NDArray[np.int64], table: ImageTable) -> Report:
    """The report of an evaluation of the rows (N) of `table`, whose true labels are (N,), with the accuracy on leaked
    and on clean images: metrics `accuracy_clean`, `accuracy_leaked` and `optimism`, a table and a finding. As it is
    where nothing leaked."""
    if LEAKED not in table.frame.columns:
        return report
    leaked = table.frame[LEAKED].to_numpy().astype(bool)
    judged = labels >= 0
    if not (leaked & judged).any():
        return report
    found = optimism((predictions.index == labels)[judged], leaked[judged], confidence=report.body["confidence"])
    names = table.name_series().filter(table.frame[LEAKED]).head(1000)
    hint = "trust the accuracy on clean images; divide anew with sortal split, or remove the copies with sortal fix"
    severity = "warning" if found.points is not None and found.points < 1 else "error"
    said = finding("leaks_flatter", severity, sentence(found), names, hint)
    return report.model_copy(
        update={
            "metrics": {**report.metrics, **_metrics(found)},
            "tables": {**report.tables, "leaks": optimism_table(found)},
            "findings": (said, *report.findings),
        }
    )


def sentence(found: Optimism) -> str:
    """What was measured, for a person."""
    leaked, clean, points = found.leaked, found.clean, found.points
    if clean.accuracy is None or points is None:
        return f"all {leaked.images:,} test images belong with images that trained: this accuracy says nothing"
    said = f"{leaked.images:,} of {found.every.images:,} test images belong with images that trained"
    measured = f"accuracy is {leaked.accuracy:.1%} on them and {clean.accuracy:.1%} on the others"
    return f"{said}: {measured}, so leaks flatter the result by {points:.1f} points"


def _metrics(found: Optimism) -> dict[str, Metric]:
    points = None if found.points is None else found.points / 100
    return {
        "accuracy_clean": _metric(found.clean),
        "accuracy_leaked": _metric(found.leaked),
        "optimism": Metric(value=points, n=found.every.images),
    }


def _metric(part: Part) -> Metric:
    return Metric(value=part.accuracy, low=part.low, high=part.high, n=part.images)
