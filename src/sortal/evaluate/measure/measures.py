"""The images that count in an evaluation, and the single numbers about their answers, as Metrics with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.backoff import sum_to_parents
from sortal.core.errors import DataError
from sortal.core.predictions import Predictions
from sortal.core.report import Metric
from sortal.evaluate.measure.grouped import Bools, Floats, Interval, Sample, grouped, share_interval
from sortal.evaluate.measure.grouped_averages import grouped_average_intervals, grouped_class_intervals
from sortal.evaluate.measure.metrics import (
    average_intervals,
    averages,
    class_counts,
    class_intervals,
    class_scores,
    confusion,
    hits_at,
)
from sortal.evaluate.tables import buckets

Ints = NDArray[np.int64]
Ends = dict[str, dict[str, Interval]]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The images that have a label and could be read."""

    rows: Ints
    labels: Ints
    index: Ints
    abstained: Bools
    probabilities: NDArray[np.float32]
    names: tuple[str, ...]
    parents: list[int] | None
    parent_names: tuple[str, ...]
    matrix: Ints
    sample: Sample
    ends: Ends
    """Intervals of the averages over classes."""


def evaluated_images(
    predictions: Predictions, labels: Ints, confidence: float, groups: Ints | None = None
) -> Evaluated:
    """Pick the rows that count, with what is computed from them once. `groups` (N,) are group numbers, negative where
    an image is a group of its own. Raises DataError when there is no image."""
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
    sample = sample_of(groups, rows, confidence)
    return Evaluated(
        rows=rows,
        labels=labels[rows],
        index=predictions.index[rows],
        abstained=predictions.abstained[rows],
        probabilities=predictions.probabilities[rows],
        names=known.names,
        parents=known.coarse_index(),
        parent_names=() if coarse is None else coarse.names,
        matrix=confusion(labels[rows], predictions.index[rows], len(known)),
        sample=sample,
        ends=average_ends(sample, labels[rows], predictions.index[rows], len(known)),
    )


def sample_of(groups: Ints | None, rows: Ints, confidence: float) -> Sample:
    """The rows as a sample: grouped where groups are given and fewer than the rows."""
    return (
        Sample(size=len(rows), confidence=confidence)
        if groups is None
        else grouped(groups[rows], confidence=confidence)
    )


def average_ends(sample: Sample, labels: Ints, index: Ints, classes: int) -> Ends:
    """Intervals of the averages over classes, by images or by groups."""
    if sample.groups is None:
        return average_intervals(confusion(labels, index, classes), sample.confidence)
    return grouped_average_intervals(sample, labels, index, classes)


def class_ends(sample: Sample, labels: Ints, index: Ints, classes: int) -> dict[str, tuple[Floats, Floats]]:
    """Intervals of precision, recall and F1 by class, by images or by groups."""
    if sample.groups is None:
        return class_intervals(class_counts(confusion(labels, index, classes)), sample.confidence)
    return grouped_class_intervals(sample, labels, index, classes)


def share(sample: Sample, hits: Bools, members: Bools | None = None) -> Metric:
    """The share of hits (N,) among members (N,; all images by default), undefined without members."""
    inside = np.ones(len(hits), bool) if members is None else members
    n = int(inside.sum())
    if not n:
        return Metric(value=None, n=0)
    low, high = share_interval(sample, hits & inside, inside)
    return Metric(value=int((hits & inside).sum()) / n, low=low, high=high, n=n)


def class_metrics(data: Evaluated) -> dict[str, Metric]:
    """Accuracy, averages over classes, and the recall of the class found least often with that class's interval."""
    counts, n = class_counts(data.matrix), len(data.rows)
    values = averages(counts)

    def average(name: str, score: str) -> Metric:
        low, high = data.ends[name][score]
        return Metric(value=float(values[name][score]), low=low, high=high, n=n)

    seen = np.flatnonzero(counts.true > 0)
    worst = int(seen[class_scores(counts)["recall"][seen].argmin()])
    right = data.labels == data.index
    return {
        "accuracy": share(data.sample, right),
        "macro_f1": average("macro", "f1"),
        "macro_precision": average("macro", "precision"),
        "macro_recall": average("macro", "recall"),
        "weighted_f1": average("weighted", "f1"),
        "weighted_precision": average("weighted", "precision"),
        "weighted_recall": average("weighted", "recall"),
        "balanced_accuracy": average("balanced", "recall"),
        "worst_class_recall": share(data.sample, right, data.labels == worst),
    }


def top_k_metrics(data: Evaluated, top_k: Sequence[int]) -> dict[str, Metric]:
    """`top_<k>` for each k above 1 (the accuracy is top-1), 1.0 where k reaches the classes; and `top_5_error`."""
    found = {}
    for k in sorted({k for k in top_k if k > 1}):
        hits = hits_at(data.probabilities, data.labels, k)
        found[f"top_{k}"] = share(data.sample, hits)
        if k == 5:
            found["top_5_error"] = share(data.sample, ~hits)
    return found


def coarse_metrics(data: Evaluated) -> dict[str, Metric]:
    """Accuracy one level up the taxonomy, by the answer's parent and by summed probabilities; nothing without one."""
    if data.parents is None:
        return {}
    parents, n = np.asarray(data.parents), len(data.rows)
    true, answered = parents[data.labels], parents[data.index]
    summed = sum_to_parents(data.probabilities, data.parents).argmax(axis=1)
    classes = len(data.parent_names)
    low, high = average_ends(data.sample, true, answered, classes)["macro"]["f1"]
    f1 = float(averages(class_counts(confusion(true, answered, classes)))["macro"]["f1"])
    return {
        "coarse_accuracy": share(data.sample, true == answered),
        "coarse_macro_f1": Metric(value=f1, low=low, high=high, n=n),
        "coarse_accuracy_summed": share(data.sample, summed == true),
    }


def bucket_metrics(data: Evaluated, train_counts: Ints | None) -> dict[str, Metric]:
    """Accuracy on classes with many, some, few and rare training images; buckets without images are left out."""
    if train_counts is None:
        return {}
    right = data.labels == data.index
    found = {
        f"{bucket.name}_accuracy": share(data.sample, right, bucket.members[data.labels])
        for bucket in buckets(train_counts)
    }
    return {name: metric for name, metric in found.items() if metric.n}


def coverage_metrics(
    predictions: Predictions, labels: Ints, confidence: float, groups: Ints | None = None
) -> dict[str, Metric]:
    """Share of labelled images that were read and answered; where some were not answered, accuracy on the rest."""
    rows = np.flatnonzero(labels >= 0)
    sample = sample_of(groups, rows, confidence)
    answered = ((predictions.index >= 0) & ~predictions.abstained)[rows]
    found = {"coverage": share(sample, answered)}
    if predictions.abstained.any() and answered.any():
        found["answered_accuracy"] = share(sample, (predictions.index == labels)[rows], answered)
    return found


def detection_metrics(data: Evaluated, own: Bools, reported: Bools) -> dict[str, Metric]:
    """Miss rate and false-detection rate at the answers, not at a threshold: `own` (N,) are the images that have the
    defect, `reported` (N,) those that were answered so. A rate without images is left out."""
    found = {
        "miss_rate": share(data.sample, ~reported, own),
        "false_detection_rate": share(data.sample, reported, ~own),
    }
    return {name: metric for name, metric in found.items() if metric.n}
