"""The tables of an evaluation report, made from counts. Column names are units of meaning: shares run from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Cell, Table
from sortal.data.statistics import UNEVEN_RATIO, imbalance_ratio
from sortal.evaluate.intervals import wilson
from sortal.evaluate.metrics import (
    AVERAGES,
    SCORES,
    Interval,
    averages,
    class_counts,
    class_intervals,
    class_scores,
    confused_pairs,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RARE_BELOW = 50
"""A class with fewer training images than this belongs to the bucket called rare."""


def per_class_table(
    names: Sequence[str], matrix: Ints, confidence: float, extra: Mapping[str, Sequence[Cell]]
) -> Table:
    """One row a class with its scores and intervals, then the columns of `extra`.

    Cells are None where a score is undefined: recall without images, precision without answers (macro averages count
    a class that has one but not the other as 0), F1 without both.
    """
    counts = class_counts(matrix)
    scores, ends = class_scores(counts), class_intervals(counts, confidence)
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
    columns["false_detection_rate"] = _cells((counts.answered - counts.hits) / np.maximum(others, 1), others > 0)
    return table_of({**columns, **extra})


def averages_table(matrix: Ints, intervals: Mapping[str, Mapping[str, Interval]]) -> Table:
    """Micro, macro and weighted precision, recall and F1, each with its interval."""
    values = averages(class_counts(matrix))
    columns = ("average", *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")))
    rows = [
        (name, *(cell for score in SCORES for cell in (float(values[name][score]), *intervals[name][score])))
        for name in AVERAGES
    ]
    return Table(columns=columns, rows=tuple(rows))


def pairs_table(names: Sequence[str], matrix: Ints, confidence: float, *, limit: int = 30) -> Table:
    """The most frequent mistakes; `share` is the count out of the true class's images, with its interval."""
    sizes = matrix.sum(axis=1)
    rows = []
    for true, answered, count in confused_pairs(matrix, limit):
        low, high = wilson(count, sizes[true], confidence)
        rows.append((names[true], names[answered], count, count / int(sizes[true]), float(low), float(high)))
    return Table(columns=("true", "answered", "count", "share", "share_low", "share_high"), rows=tuple(rows))


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


def buckets_table(train_counts: Ints, matrix: Ints, confidence: float) -> Table:
    """Accuracy over the images of each bucket, and the mean recall of its classes that have images."""
    counts, rows = class_counts(matrix), []
    recall = class_scores(counts)["recall"]
    for bucket in buckets(train_counts):
        images = int(counts.true[bucket.members].sum())
        hits = int(counts.hits[bucket.members].sum())
        low, high = wilson(hits, images, confidence)
        seen = bucket.members & (counts.true > 0)
        ends = (hits / images, float(low), float(high), float(recall[seen].mean())) if images else (None,) * 4
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


def _cells(values: Floats, defined: NDArray[np.bool_]) -> list[Cell]:
    return [float(value) if ok else None for value, ok in zip(values, defined, strict=True)]
