"""From predictions and labels to an evaluation Report, and to the files a person opens.

The headline is top-1 accuracy with macro F1 and the worst class beside it, so that frequent classes cannot hide rare
ones. Calibration, certificates and comparisons of two classifiers are told elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Metric, Report, Table
from sortal.evaluate.findings import evaluation_findings
from sortal.evaluate.intervals import wilson
from sortal.evaluate.metrics import (
    average_intervals,
    averages,
    class_counts,
    class_scores,
    confusion,
    hits_at,
    nearest_classes,
    sum_to_parents,
)
from sortal.evaluate.summary import evaluation_summary
from sortal.evaluate.tables import (
    averages_table,
    buckets,
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
    data = _usable(predictions, labels)
    chosen = _positive(predictions, positive)
    metrics = {
        **_headline(data, confidence),
        **_top_k(data, top_k, confidence),
        **_coarse(data, confidence),
        **_buckets(data, train_counts, confidence),
        **_coverage(predictions, labels, confidence),
    }
    tables = _tables(data, confidence, train_counts, None if embeddings is None else embeddings[data.rows])
    if chosen is not None:
        curve = threshold_curve(data.probabilities[:, chosen], data.labels == chosen, confidence)
        tables["threshold_curve"] = curve
        metrics |= _detection(data, chosen, confidence)
    if model:
        tables["model"] = Table(columns=("property", "value"), rows=tuple(model.items()))
    names = predictions.labels.names
    report = Report(
        kind="evaluation",
        subject=subject,
        data_digest=data_digest,
        metrics=metrics,
        tables=tables,
        findings=evaluation_findings(predictions, labels, data.matrix, top_k=top_k, confidence=confidence),
        provenance={
            "bundle": predictions.bundle_id,
            "labels": predictions.labels.digest,
            "split": split,
        },
        body={
            "confidence": confidence,
            "split": split,
            "positive": None if chosen is None else names[chosen],
            "headline": [name for name in _HEADLINE if name in metrics],
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


@dataclass(frozen=True, kw_only=True)
class _Usable:
    """The images that have a label and could be read."""

    rows: Ints
    labels: Ints
    index: Ints
    probabilities: NDArray[np.float32]
    names: tuple[str, ...]
    parents: list[int] | None
    parent_names: tuple[str, ...]
    matrix: Ints


def _usable(predictions: Predictions, labels: Ints) -> _Usable:
    rows = np.flatnonzero((labels >= 0) & (predictions.index >= 0))
    if not len(rows):
        raise DataError(
            "there is no image to evaluate",
            received=f"{len(labels)} images, {int((labels >= 0).sum())} with a label that the classifier knows, "
            f"{int((predictions.index < 0).sum())} unreadable",
            hint="give images whose labels are classes of the classifier",
        )
    known = predictions.labels
    coarse = known.coarse()
    return _Usable(
        rows=rows,
        labels=labels[rows],
        index=predictions.index[rows],
        probabilities=predictions.probabilities[rows],
        names=known.names,
        parents=known.coarse_index(),
        parent_names=() if coarse is None else coarse.names,
        matrix=confusion(labels[rows], predictions.index[rows], len(known)),
    )


def _headline(data: _Usable, confidence: float) -> dict[str, Metric]:
    counts, n = class_counts(data.matrix), len(data.rows)
    values, ends = averages(counts), average_intervals(data.matrix, confidence)

    def average(name: str, score: str) -> Metric:
        low, high = ends[name][score]
        return Metric(value=float(values[name][score]), low=low, high=high, n=n)

    seen = np.flatnonzero(counts.true > 0)
    worst = int(seen[class_scores(counts)["recall"][seen].argmin()])
    return {
        "accuracy": _share(int(counts.hits.sum()), n, confidence),
        "macro_f1": average("macro", "f1"),
        "macro_precision": average("macro", "precision"),
        "macro_recall": average("macro", "recall"),
        "weighted_f1": average("weighted", "f1"),
        "weighted_precision": average("weighted", "precision"),
        "weighted_recall": average("weighted", "recall"),
        "balanced_accuracy": average("balanced", "recall"),
        "worst_class_recall": _share(int(counts.hits[worst]), int(counts.true[worst]), confidence),
    }


def _top_k(data: _Usable, top_k: Sequence[int], confidence: float) -> dict[str, Metric]:
    """`top_1` is left out: it is the accuracy."""
    found, n = {}, len(data.rows)
    for k in sorted({k for k in top_k if k > 1}):
        hits = int(hits_at(data.probabilities, data.labels, k).sum())
        found[f"top_{k}"] = _share(hits, n, confidence)
        if k == 5:
            found["top_5_error"] = _share(n - hits, n, confidence)
    return found


def _coarse(data: _Usable, confidence: float) -> dict[str, Metric]:
    if data.parents is None:
        return {}
    parents, n = np.asarray(data.parents), len(data.rows)
    summed = sum_to_parents(data.probabilities, data.parents).argmax(axis=1)
    matrix = confusion(parents[data.labels], parents[data.index], len(data.parent_names))
    low, high = average_intervals(matrix, confidence)["macro"]["f1"]
    f1 = float(averages(class_counts(matrix))["macro"]["f1"])
    return {
        "coarse_accuracy": _share(int(np.trace(matrix)), n, confidence),
        "coarse_macro_f1": Metric(value=f1, low=low, high=high, n=n),
        "coarse_accuracy_summed": _share(int((summed == parents[data.labels]).sum()), n, confidence),
    }


def _buckets(data: _Usable, train_counts: Ints | None, confidence: float) -> dict[str, Metric]:
    if train_counts is None:
        return {}
    counts = class_counts(data.matrix)
    return {
        f"{bucket.name}_accuracy": _share(int(counts.hits[bucket.members].sum()), images, confidence)
        for bucket in buckets(train_counts)
        if (images := int(counts.true[bucket.members].sum()))
    }


def _coverage(predictions: Predictions, labels: Ints, confidence: float) -> dict[str, Metric]:
    answered = (labels >= 0) & (predictions.index >= 0) & ~predictions.abstained
    found = {"coverage": _share(int(answered.sum()), int((labels >= 0).sum()), confidence)}
    if predictions.abstained.any() and answered.any():
        right = int((predictions.index == labels)[answered].sum())
        found["answered_accuracy"] = _share(right, int(answered.sum()), confidence)
    return found


def _detection(data: _Usable, positive: int, confidence: float) -> dict[str, Metric]:
    """Miss rate and false-detection rate of one class at its answers, not at a threshold."""
    own, reported = data.labels == positive, data.index == positive
    pairs = {"miss_rate": (own & ~reported, own), "false_detection_rate": (~own & reported, ~own)}
    return {
        name: _share(int(part.sum()), int(whole.sum()), confidence)
        for name, (part, whole) in pairs.items()
        if whole.any()
    }


def _tables(
    data: _Usable, confidence: float, train_counts: Ints | None, embeddings: NDArray[np.float32] | None
) -> dict[str, Table]:
    extra: dict[str, list[Cell]] = {}
    if train_counts is not None:
        extra["training_images"] = train_counts.tolist()
    if embeddings is not None:
        nearest, distance = nearest_classes(embeddings, data.labels, len(data.names))
        extra["nearest_class"] = [data.names[index] if index >= 0 else None for index in nearest]
        extra["nearest_distance"] = [None if np.isnan(gap) else float(gap) for gap in distance]
    tables = {
        "averages": averages_table(data.matrix, average_intervals(data.matrix, confidence)),
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


def _counts(predictions: Predictions, labels: Ints, data: _Usable) -> dict[str, int]:
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


def _share(hits: int, n: int, confidence: float) -> Metric:
    if not n:
        return Metric(value=None, n=0)
    low, high = wilson(hits, n, confidence)
    return Metric(value=hits / n, low=float(low), high=float(high), n=n)


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
