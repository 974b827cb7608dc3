"""What an evaluation says about probabilities: calibration, the order of sureness, before and after the decision.

Adds metrics, tables and pictures to a report of `evaluate.evaluation`; what they mean is in `reliability` and
`risk_coverage`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.predictions import Predictions
from sortal.core.report import Metric, Report, Table
from sortal.evaluate.measure.grouped import Sample, grouped, statistic_interval
from sortal.evaluate.trust.calibration import uncalibrated
from sortal.evaluate.trust.reliability import (
    Reliability,
    brier_scores,
    classwise_error,
    draw_reliability,
    log_losses,
    reliability,
    reliability_table,
)
from sortal.evaluate.trust.risk_coverage import draw_risk_coverage, risk_coverage, risk_coverage_table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_IMAGES = 20
"""With fewer evaluated images nothing is said about probabilities."""
TITLES = {"reliability": "reliability of stated probabilities", "risk_coverage": "error when only the surest are given"}


def with_confidence(
    report: Report, predictions: Predictions, labels: Ints, decision: DecisionSpec, groups: Ints
) -> Report:
    """The report with `ece`, `classwise_ece`, `brier`, `log_loss` and `aurc`, each also as it was `_before` calibration
    where there is any, and the tables `reliability` (also `_before`) and `risk_coverage`. `labels` (N,) are -1 where
    unknown, `groups` (N,) -1 where an image belongs to none."""
    rows = _evaluated(predictions, labels)
    if len(rows) < LEAST_IMAGES:
        return report
    chances, truth = predictions.probabilities[rows], labels[rows]
    sample = grouped(groups[rows], confidence=report.body["confidence"])
    metrics = _metrics(sample, chances, truth, predictions.index[rows])
    tables: dict[str, Table] = {}
    if _calibrates(decision):
        before = uncalibrated(decision, chances)
        earlier = _metrics(sample, before, truth, before.argmax(axis=1))
        metrics |= {f"{name}_before": metric for name, metric in earlier.items()}
        curve = reliability(before.max(axis=1), before.argmax(axis=1) == truth)
        tables["reliability_before"] = reliability_table(curve)
    tables |= {
        "reliability": reliability_table(_curve(predictions, labels, rows)),
        "risk_coverage": risk_coverage_table(
            risk_coverage(predictions.probability[rows], predictions.index[rows] != truth)
        ),
    }
    update = {"metrics": {**report.metrics, **metrics}, "tables": {**report.tables, **tables}}
    return report.model_copy(update=update)


def draw_confidence(
    predictions: Predictions, labels: Ints, decision: DecisionSpec, contract: Contract | None, folder: Path
) -> dict[str, Path]:
    """Draw both curves into `folder`; paths by the titles they have on a page. Nothing where images are too few."""
    rows = _evaluated(predictions, labels)
    if len(rows) < LEAST_IMAGES:
        return {}
    places = {title: folder / f"{name}.png" for name, title in TITLES.items()}
    first, second = places.values()
    before = None
    if _calibrates(decision):
        raw = uncalibrated(decision, predictions.probabilities[rows])
        before = reliability(raw.max(axis=1), raw.argmax(axis=1) == labels[rows])
    draw_reliability(_curve(predictions, labels, rows), first, before=before)
    wrong, given = predictions.index[rows] != labels[rows], ~predictions.abstained[rows]
    chosen = (float(given.mean()), float(wrong[given].mean())) if given.any() and not given.all() else None
    draw_risk_coverage(
        risk_coverage(predictions.probability[rows], wrong),
        second,
        chosen=chosen,
        max_error=None if contract is None else contract.max_error,
        min_coverage=None if contract is None else contract.min_coverage,
    )
    return places


def _metrics(sample: Sample, chances: NDArray[np.float32], labels: Ints, index: Ints) -> dict[str, Metric]:
    n, own = len(labels), chances[np.arange(len(labels)), index]
    curve = reliability(own, index == labels)
    return {
        "ece": Metric(value=curve.error, n=n),
        "classwise_ece": Metric(value=classwise_error(chances, labels), n=n),
        "brier": _mean(sample, brier_scores(chances, labels), (0.0, 2.0)),
        "log_loss": _mean(sample, log_losses(chances, labels), (0.0, 37.0)),
        "aurc": Metric(value=risk_coverage(own, index != labels).aurc, n=n),
    }


def _mean(sample: Sample, values: Floats, bounds: tuple[float, float]) -> Metric:
    mean = float(values.mean())
    low, high = statistic_interval(sample, mean, (values - mean) / len(values), bounds=bounds)
    return Metric(value=mean, low=low, high=high, n=len(values))


def _curve(predictions: Predictions, labels: Ints, rows: Ints) -> Reliability:
    return reliability(predictions.probability[rows], predictions.index[rows] == labels[rows])


def _evaluated(predictions: Predictions, labels: Ints) -> Ints:
    return np.flatnonzero((labels >= 0) & (predictions.index >= 0)).astype(np.int64)


def _calibrates(decision: DecisionSpec) -> bool:
    return decision.temperature != 1.0 or decision.bias is not None
