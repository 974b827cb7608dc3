"""Which tables an evaluation report has, and what they are made from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Cell, Table
from sortal.core.sections import EvaluateSection
from sortal.evaluate.measure.backoff import back_off_curve
from sortal.evaluate.measure.grouped import Floats, share_intervals
from sortal.evaluate.measure.measures import Evaluated, class_ends
from sortal.evaluate.measure.metrics import nearest_classes
from sortal.evaluate.measure.prevalence import Mix
from sortal.evaluate.measure.ranking import Ranked
from sortal.evaluate.measure.thresholds import threshold_curve
from sortal.evaluate.pairs import pairs_table
from sortal.evaluate.tables import averages_table, buckets_table, confusion_table, per_class_table, table_of
from sortal.evaluate.task import Task

Ints = NDArray[np.int64]

WHOLE_MATRIX_UP_TO = 50
"""A report holds the confusion matrix as a table up to this many classes; beyond, it is in confusion_matrix.csv."""


def evaluation_tables(
    data: Evaluated,
    *,
    rules: EvaluateSection,
    task: Task,
    mix: Mix | None,
    train_counts: Ints | None,
    embeddings: NDArray[np.float32] | None,
    precision: Ranked,
    area: Ranked,
) -> dict[str, Table]:
    """All tables of the images that count; `embeddings` go row by row with them."""
    labels, index, sample, classes = data.labels, data.index, data.sample, len(data.names)
    ranked = {
        "average_precision": (precision.mean, precision.interval),
        "roc_auc": (area.mean, area.interval),
    }
    extra = _extra(data, train_counts, embeddings, precision, area)
    probability = data.probabilities[np.arange(len(index)), index]
    tables = {
        "averages": averages_table(data.matrix, data.ends, ranked),
        "confused_pairs": pairs_table(
            data.names, labels, index, probability, data.matrix, sample, parents=data.parents, train_counts=train_counts
        ),
        "per_class": per_class_table(
            data.names, labels, index, sample, class_ends(sample, labels, index, classes), extra
        ),
    }
    if data.parents is not None:
        tables["per_coarse_class"] = _families(data, np.asarray(data.parents))
        tables["back_off"] = back_off_curve(sample, data.probabilities, labels, data.parents)
    if train_counts is not None:
        tables["training_size"] = buckets_table(train_counts, labels, index, sample)
    if mix is not None:
        tables["prevalence"] = _mix_table(data, mix)
    if task.detects:
        score = task.score(data.probabilities)
        tables["threshold_curve"] = threshold_curve(score, task.defective(labels), rules.confidence, sample=sample)
    if classes <= WHOLE_MATRIX_UP_TO:
        tables["confusion"] = confusion_table(data.names, data.matrix)
    return tables


def _extra(
    data: Evaluated,
    train_counts: Ints | None,
    embeddings: NDArray[np.float32] | None,
    precision: Ranked,
    area: Ranked,
) -> dict[str, list[Cell]]:
    extra: dict[str, list[Cell]] = {
        "average_precision": _cells(precision.values),
        "average_precision_low": _cells(precision.low),
        "average_precision_high": _cells(precision.high),
        "roc_auc": _cells(area.values),
        "roc_auc_low": _cells(area.low),
        "roc_auc_high": _cells(area.high),
    }
    if train_counts is not None:
        extra["training_images"] = train_counts.tolist()
    if embeddings is not None:
        nearest, distance = nearest_classes(embeddings, data.labels, len(data.names))
        extra["nearest_class"] = [data.names[index] if index >= 0 else None for index in nearest]
        extra["nearest_distance"] = _cells(distance)
    return extra


def _families(data: Evaluated, parents: Ints) -> Table:
    """One row a coarse class; `fine_accuracy` is the share of its images answered with exactly their class."""
    true, answered, count = parents[data.labels], parents[data.index], len(data.parent_names)
    right = data.labels == data.index
    sizes = np.bincount(true, minlength=count)
    hits = np.bincount(true, right.astype(np.float64), count)
    low, high = share_intervals(data.sample, right, true, count)
    empty = sizes == 0
    fine = {
        "classes": np.bincount(parents, minlength=count).tolist(),
        "fine_accuracy": _cells(np.where(empty, np.nan, hits / np.maximum(sizes, 1))),
        "fine_accuracy_low": _cells(np.where(empty, np.nan, low)),
        "fine_accuracy_high": _cells(np.where(empty, np.nan, high)),
    }
    return per_class_table(
        data.parent_names, true, answered, data.sample, class_ends(data.sample, true, answered, count), fine
    )


def _mix_table(data: Evaluated, mix: Mix) -> Table:
    here = data.matrix.sum(axis=1) / len(data.rows)
    return table_of({"class": data.names, "share_here": here.tolist(), "prevalence": mix.shares.tolist()})


def _cells(values: Floats) -> list[Cell]:
    return [None if np.isnan(value) else float(value) for value in values]
