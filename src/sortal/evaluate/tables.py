"""The tables of an evaluation report, made from counts. Column names are units of meaning: shares run from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Cell, Table
from sortal.data.statistics import UNEVEN_RATIO, imbalance_ratio
from sortal.evaluate.measure.grouped import Sample, share_interval
from sortal.evaluate.measure.intervals import wilson
from sortal.evaluate.measure.metrics import (
    AVERAGES,
    SCORES,
    Interval,
    averages,
    class_counts,
    class_scores,
    confusion,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RARE_BELOW = 50
"""A class with fewer training images than this belongs to the bucket called rare."""


def per_class_table(
    names: Sequence[str],
    labels: Ints,
    index: Ints,
    sample: Sample,
    ends: Mapping[str, tuple[Floats, Floats]],
    extra: Mapping[str, Sequence[Cell]],
) -> Table:
    """One row a class with its scores and intervals (`ends`, each (C,)), then the columns of `extra`, from labels and
    answers (N,).

    Miss rate: images of the class answered another / its images. False-detection rate: images of other classes answered
    this one / images of other classes. Cells are None where a score is undefined: recall without images, precision
    without answers (macro averages count a class that has one but not the other as 0), F1 without both.
    """
    counts = class_counts(confusion(labels, index, len(names)))
    scores = class_scores(counts)
    defined = {"precision": counts.answered > 0, "recall": counts.true > 0, "f1": counts.present}
    columns: dict[str, Sequence[Cell]] = {
        "class": tuple(names),
        "images": counts.true.tolist(),
        "answered": counts.answered.tolist(),
    }
    for score in SCORES:
        columns[score] = _cells(scores[score], defined[score])
        columns[f"{score}_low"] = _cells(ends[score][0], defined[score])
        columns[f"{score}_high"] = _cells(ends[score][1], defined[score])
    others = counts.true.sum() - counts.true
    columns["miss_rate"] = _cells(1.0 - scores["recall"], defined["recall"])
    columns["miss_rate_low"] = _cells(1.0 - ends["recall"][1], defined["recall"])
    columns["miss_rate_high"] = _cells(1.0 - ends["recall"][0], defined["recall"])
    false = _false_detections(labels, index, sample, len(names))
    columns["false_detection_rate"] = _cells((counts.answered - counts.hits) / np.maximum(others, 1), others > 0)
    columns["false_detection_rate_low"] = _cells(false[0], others > 0)
    columns["false_detection_rate_high"] = _cells(false[1], others > 0)
    return table_of({**columns, **extra})


def averages_table(
    matrix: Ints,
    intervals: Mapping[str, Mapping[str, Interval]],
    ranked: Mapping[str, tuple[float | None, Interval]] | None = None,
) -> Table:
    """Micro, macro and weighted precision, recall and F1, each with its interval; and measures of ranking, means over
    classes, by name."""
    values, extra = averages(class_counts(matrix)), ranked or {}
    names = (*SCORES, *extra)
    columns = ("average", *(f"{score}{end}" for score in names for end in ("", "_low", "_high")))
    rows = []
    for name in AVERAGES:
        cells: list[Cell] = [name]
        for score in SCORES:
            cells += [float(values[name][score]), *intervals[name][score]]
        for mean, ends in extra.values():
            cells += [mean, *ends] if name == "macro" and mean is not None else [None] * 3
        rows.append(tuple(cells))
    return Table(columns=columns, rows=tuple(rows))


def confusion_table(names: Sequence[str], matrix: Ints) -> Table:
    """The whole matrix: true class in rows, answers in columns."""
    rows = zip(names, matrix.tolist(), strict=True)
    return Table(columns=("true class", *names), rows=tuple((name, *row) for name, row in rows))


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Classes with a similar number of training images."""

    name: str
    rule: str
    members: NDArray[np.bool_]


def buckets(train_counts: Ints) -> list[Bucket]:
    """Head, mid and tail as in Liu et al. (2019), "Large-scale long-tailed recognition in an open world"; and rare.

    Head has more than 100 training images, mid 20 to 100, tail fewer than 20. Where classes are very unequal and yet
    one of head and tail would be empty, each is a third of the classes instead: those with the most and with the fewest
    images. Rare, which overlaps the others, has fewer than 50.
    """
    rules = {
        "head": ("more than 100 training images", train_counts > 100),
        "mid": ("20 to 100", (train_counts >= 20) & (train_counts <= 100)),
        "tail": ("fewer than 20", train_counts < 20),
    }
    if imbalance_ratio(train_counts) >= UNEVEN_RATIO and not (rules["head"][1].any() and rules["tail"][1].any()):
        rules = _thirds(train_counts)
    rules["rare"] = (f"fewer than {RARE_BELOW}", train_counts < RARE_BELOW)
    return [Bucket(name=name, rule=rule, members=members) for name, (rule, members) in rules.items()]


def buckets_table(train_counts: Ints, labels: Ints, index: Ints, sample: Sample) -> Table:
    """Accuracy over the images of each bucket, and the mean recall of its classes that have images."""
    counts, rows = class_counts(confusion(labels, index, len(train_counts))), []
    recall = class_scores(counts)["recall"]
    for bucket in buckets(train_counts):
        images = int(counts.true[bucket.members].sum())
        hits = int(counts.hits[bucket.members].sum())
        low, high = share_interval(sample, labels == index, bucket.members[labels])
        seen = bucket.members & (counts.true > 0)
        ends = (hits / images, low, high, float(recall[seen].mean())) if images else (None,) * 4
        rows.append((bucket.name, bucket.rule, int(bucket.members.sum()), images, *ends))
    columns = ("bucket", "rule", "classes", "images", "accuracy", "accuracy_low", "accuracy_high", "mean_recall")
    return Table(columns=columns, rows=tuple(rows))


def _thirds(train_counts: Ints) -> dict[str, tuple[str, NDArray[np.bool_]]]:
    """Equally large classes stay together, so head and tail may be more than a third."""
    ascending = np.sort(train_counts)
    third = max(1, len(ascending) // 3)
    most, least = int(ascending[-third]), int(ascending[third - 1])
    head, tail = train_counts >= most, train_counts <= least
    return {
        "head": (f"{most:,} training images or more, a third of the classes", head),
        "mid": ("between", ~head & ~tail),
        "tail": (f"{least:,} or fewer, a third of the classes", tail),
    }


def table_of(columns: Mapping[str, Sequence[Cell]]) -> Table:
    """A Table from columns of equal length."""
    return Table(columns=tuple(columns), rows=tuple(zip(*columns.values(), strict=True)))


def _false_detections(labels: Ints, index: Ints, sample: Sample, classes: int) -> tuple[Floats, Floats]:
    """Interval (C,) of each class's false-detection rate."""
    if sample.groups is None:
        counts = class_counts(confusion(labels, index, classes))
        return wilson(counts.answered - counts.hits, len(labels) - counts.true, sample.confidence)
    ends = [share_interval(sample, index == name, labels != name) for name in range(classes)]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def _cells(values: Floats, defined: NDArray[np.bool_]) -> list[Cell]:
    return [float(value) if ok else None for value, ok in zip(values, defined, strict=True)]
