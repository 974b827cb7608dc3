"""From predictions and labels to an evaluation Report, and to the files a person opens.

The headline is top-1 accuracy with macro F1, balanced accuracy and the worst class beside it, so that frequent classes
cannot hide rare ones; where training classes were very unequal, the averages over classes come first. Calibration,
certificates and comparisons of two classifiers are told elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Metric, Report, Table
from sortal.data.statistics import UNEVEN_RATIO, imbalance_ratio
from sortal.evaluate.findings import evaluation_findings
from sortal.evaluate.measures import (
    Evaluated,
    bucket_metrics,
    class_metrics,
    coarse_metrics,
    coverage_metrics,
    detection_metrics,
    evaluated_images,
    top_k_metrics,
)
from sortal.evaluate.metrics import (
    confusion,
    nearest_classes,
)
from sortal.evaluate.summary import evaluation_summary
from sortal.evaluate.tables import (
    averages_table,
    buckets_table,
    confusion_table,
    pairs_table,
    per_class_table,
)
from sortal.evaluate.thresholds import threshold_curve

Ints = NDArray[np.int64]

WHOLE_MATRIX_UP_TO = 50
"""A report holds the confusion matrix as a table up to this many classes; beyond, it is in confusion_matrix.csv."""


def evaluate_predictions(
    predictions: Predictions,
    labels: Ints,
    *,
    subject: str,
    data_digest: str | None = None,
    top_k: Sequence[int] = (1, 3, 5),
    confidence: float = 0.95,
    train_counts: Ints | None = None,
    embeddings: NDArray[np.float32] | None = None,
    split: str | None = None,
    model: Mapping[str, Cell] | None = None,
    positive: str | None = None,
) -> Report:
    """The evaluation of N answers against labels (N,), indices into `predictions.labels`, -1 for no known class.

    Metrics are computed over images that have a label and could be read, whether or not the classifier abstained;
    `coverage` is the share of labelled images that it read and answered, `answered_accuracy` the accuracy on those.
    Coarse accuracy is of the answered class's parent; `coarse_accuracy_summed` instead sums probabilities to parents.

    `train_counts` (C,) are training images a class, `embeddings` (N, D) go row by row with the predictions, `model`
    holds facts such as parameters and size_mb. `positive` names the class whose threshold curve is drawn; with two
    classes it is the second unless named. Raises DataError when no image can be evaluated or a length does not fit.
    """
    _check(predictions, labels, train_counts, embeddings)
    data = evaluated_images(predictions, labels, confidence)
    chosen = _positive(predictions, positive)
    metrics = {
        **class_metrics(data, confidence),
        **top_k_metrics(data, top_k, confidence),
        **coarse_metrics(data, confidence),
        **bucket_metrics(data, train_counts, confidence),
        **coverage_metrics(predictions, labels, confidence),
    }
    tables = _tables(data, confidence, train_counts, None if embeddings is None else embeddings[data.rows])
    if chosen is not None:
        curve = threshold_curve(data.probabilities[:, chosen], data.labels == chosen, confidence)
        tables["threshold_curve"] = curve
        metrics |= detection_metrics(data, chosen, confidence)
    if model:
        tables["model"] = Table(columns=("property", "value"), rows=tuple(model.items()))
    names = predictions.labels.names
    ratio = 1.0 if train_counts is None else imbalance_ratio(train_counts)
    report = Report(
        kind="evaluation",
        subject=subject,
        data_digest=data_digest,
        metrics=metrics,
        tables=tables,
        findings=evaluation_findings(
            predictions, labels, data.matrix, top_k=top_k, confidence=confidence, imbalance=ratio
        ),
        provenance={"bundle": predictions.bundle_id, "labels": predictions.labels.digest, "split": split},
        body={
            "confidence": confidence,
            "split": split,
            "positive": None if chosen is None else names[chosen],
            "headline": _chosen(metrics, len(names), uneven=ratio >= UNEVEN_RATIO),
            "imbalance_ratio": None if train_counts is None else ratio,
            "counts": _counts(predictions, labels, data),
        },
    )
    return report.model_copy(update={"body": {**report.body, "summary": evaluation_summary(report)}})


def pair_examples(predictions: Predictions, labels: Ints, *, each: int = 3) -> dict[tuple[str, str], list[int]]:
    """Row numbers of up to `each` images of every confused pair (true, answered), surest mistakes first."""
    names, found = predictions.labels.names, dict[tuple[str, str], list[int]]()
    wrong = np.flatnonzero((labels >= 0) & (predictions.index >= 0) & (labels != predictions.index))
    for row in wrong[np.argsort(-predictions.probability[wrong], kind="stable")].tolist():
        rows = found.setdefault((names[labels[row]], names[predictions.index[row]]), [])
        if len(rows) < each:
            rows.append(row)
    return found


_HEADLINE = (
    "accuracy",
    "macro_f1",
    "balanced_accuracy",
    "worst_class_recall",
    "coarse_accuracy",
    "top_3",
    "top_5",
    "miss_rate",
    "false_detection_rate",
    "rare_accuracy",
    "answered_accuracy",
    "coverage",
)
_HEADLINE_UNEVEN = (
    "macro_f1",
    "balanced_accuracy",
    "accuracy",
    "worst_class_recall",
    "head_accuracy",
    "mid_accuracy",
    "tail_accuracy",
)
"""Comes first where accuracy is mostly that of the frequent classes."""


def _tables(
    data: Evaluated, confidence: float, train_counts: Ints | None, embeddings: NDArray[np.float32] | None
) -> dict[str, Table]:
    extra: dict[str, list[Cell]] = {}
    if train_counts is not None:
        extra["training_images"] = train_counts.tolist()
    if embeddings is not None:
        nearest, distance = nearest_classes(embeddings, data.labels, len(data.names))
        extra["nearest_class"] = [data.names[index] if index >= 0 else None for index in nearest]
        extra["nearest_distance"] = [None if np.isnan(gap) else float(gap) for gap in distance]
    tables = {
        "averages": averages_table(data.matrix, data.ends),
        "confused_pairs": pairs_table(data.names, data.matrix, confidence),
        "per_class": per_class_table(data.names, data.matrix, confidence, extra),
    }
    if data.parents is not None:
        parents = np.asarray(data.parents)
        matrix = confusion(parents[data.labels], parents[data.index], len(data.parent_names))
        tables["per_coarse_class"] = per_class_table(data.parent_names, matrix, confidence, {})
    if train_counts is not None:
        tables["training_size"] = buckets_table(train_counts, data.matrix, confidence)
    if len(data.names) <= WHOLE_MATRIX_UP_TO:
        tables["confusion"] = confusion_table(data.names, data.matrix)
    return tables


def _chosen(metrics: Mapping[str, Metric], classes: int, *, uneven: bool) -> list[str]:
    """The numbers to show first: without top-k that cannot be wrong, without coverage where everything was answered."""
    dull = {f"top_{k}" for k in range(classes, 6)} | ({"coverage"} if metrics["coverage"].value == 1.0 else set())
    wanted = dict.fromkeys((*_HEADLINE_UNEVEN, *_HEADLINE) if uneven else _HEADLINE)
    return [name for name in wanted if name in metrics and name not in dull]


def _counts(predictions: Predictions, labels: Ints, data: Evaluated) -> dict[str, int]:
    return {
        "images": len(labels),
        "evaluated": len(data.rows),
        "right": int(np.trace(data.matrix)),
        "without_known_label": int((labels < 0).sum()),
        "unreadable": int((predictions.index < 0).sum()),
        "abstained": int(predictions.abstained.sum()),
        "classes": len(data.names),
        "classes_with_images": int((data.matrix.sum(axis=1) > 0).sum()),
    }


def _positive(predictions: Predictions, positive: str | None) -> int | None:
    if positive is not None:
        return predictions.labels.index(positive)
    return 1 if len(predictions.labels) == 2 else None


def _check(
    predictions: Predictions, labels: Ints, train_counts: Ints | None, embeddings: NDArray[np.float32] | None
) -> None:
    n, classes = len(predictions), len(predictions.labels)
    if len(labels) != n or (len(labels) and labels.max() >= classes):
        raise DataError(f"labels do not fit {n} predictions of {classes} classes", received=f"{len(labels)} labels")
    if train_counts is not None and len(train_counts) != classes:
        raise DataError(f"training counts do not fit {classes} classes", received=str(len(train_counts)))
    if embeddings is not None and len(embeddings) != n:
        raise DataError(f"embeddings do not fit {n} predictions", received=str(len(embeddings)))
