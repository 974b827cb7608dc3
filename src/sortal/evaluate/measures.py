"""The images that count in an evaluation, and every single number computed from them, as Metrics with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.predictions import Predictions
from sortal.core.report import Metric
from sortal.evaluate.intervals import wilson
from sortal.evaluate.metrics import (
    Interval,
    average_intervals,
    averages,
    class_counts,
    class_scores,
    confusion,
    hits_at,
    sum_to_parents,
)
from sortal.evaluate.tables import buckets

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The images that have a label and could be read."""

    rows: Ints
    labels: Ints
    index: Ints
    probabilities: NDArray[np.float32]
    names: tuple[str, ...]
    parents: list[int] | None
    parent_names: tuple[str, ...]
    matrix: Ints
    ends: dict[str, dict[str, Interval]]
    """Intervals of the averages over classes."""


def evaluated_images(predictions: Predictions, labels: Ints, confidence: float) -> Evaluated:
    """Pick the rows that count, with what is computed from them once. Raises DataError when there is none."""
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
    matrix = confusion(labels[rows], predictions.index[rows], len(known))
    return Evaluated(
        rows=rows,
        labels=labels[rows],
        index=predictions.index[rows],
        probabilities=predictions.probabilities[rows],
        names=known.names,
        parents=known.coarse_index(),
        parent_names=() if coarse is None else coarse.names,
        matrix=matrix,
        ends=average_intervals(matrix, confidence),
    )


def class_metrics(data: Evaluated, confidence: float) -> dict[str, Metric]:
    """Accuracy, averages over classes, and the recall of the class found least often with that class's interval."""
    counts, n = class_counts(data.matrix), len(data.rows)
    values = averages(counts)

    def average(name: str, score: str) -> Metric:
        low, high = data.ends[name][score]
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


def top_k_metrics(data: Evaluated, top_k: Sequence[int], confidence: float) -> dict[str, Metric]:
    """`top_<k>` for each k above 1 (the accuracy is top-1), 1.0 where k reaches the classes; and `top_5_error`."""
    found, n = {}, len(data.rows)
    for k in sorted({k for k in top_k if k > 1}):
        hits = int(hits_at(data.probabilities, data.labels, k).sum())
        found[f"top_{k}"] = _share(hits, n, confidence)
        if k == 5:
            found["top_5_error"] = _share(n - hits, n, confidence)
    return found


def coarse_metrics(data: Evaluated, confidence: float) -> dict[str, Metric]:
    """Accuracy one level up the taxonomy, by the answer's parent and by summed probabilities; nothing without one."""
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


def bucket_metrics(data: Evaluated, train_counts: Ints | None, confidence: float) -> dict[str, Metric]:
    """Accuracy on classes with many, some, few and rare training images; buckets without images are left out."""
    if train_counts is None:
        return {}
    counts = class_counts(data.matrix)
    return {
        f"{bucket.name}_accuracy": _share(int(counts.hits[bucket.members].sum()), images, confidence)
        for bucket in buckets(train_counts)
        if (images := int(counts.true[bucket.members].sum()))
    }


def coverage_metrics(predictions: Predictions, labels: Ints, confidence: float) -> dict[str, Metric]:
    """Share of labelled images that were read and answered; where some were not answered, accuracy on the rest."""
    answered = (labels >= 0) & (predictions.index >= 0) & ~predictions.abstained
    found = {"coverage": _share(int(answered.sum()), int((labels >= 0).sum()), confidence)}
    if predictions.abstained.any() and answered.any():
        right = int((predictions.index == labels)[answered].sum())
        found["answered_accuracy"] = _share(right, int(answered.sum()), confidence)
    return found


def detection_metrics(data: Evaluated, positive: int, confidence: float) -> dict[str, Metric]:
    """Miss rate and false-detection rate of one class at its answers, not at a threshold."""
    own, reported = data.labels == positive, data.index == positive
    pairs = {"miss_rate": (own & ~reported, own), "false_detection_rate": (~own & reported, ~own)}
    return {
        name: _share(int(part.sum()), int(whole.sum()), confidence)
        for name, (part, whole) in pairs.items()
        if whole.any()
    }


def _share(hits: int, n: int, confidence: float) -> Metric:
    if not n:
        return Metric(value=None, n=0)
    low, high = wilson(hits, n, confidence)
    return Metric(value=hits / n, low=float(low), high=float(high), n=n)
