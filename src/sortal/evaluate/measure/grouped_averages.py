"""Intervals of scores by class, and of their averages, where images come in groups. The counterpart of
`metrics.class_intervals` and `metrics.average_intervals`, which take images as independent.

The spread of an average between groups is that of the jackknife that leaves out one group at a time (Efron and Stein
1981): it needs no formula for macro F1 and notices that a class of one group stands or falls with it.

Shapes: N images, C classes, G groups.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.measure.grouped import Floats, Interval, Sample, group_interval, share_interval, share_intervals
from sortal.evaluate.measure.intervals import mean_interval
from sortal.evaluate.measure.metrics import SCORES, ClassCounts, averages, class_counts, class_scores, confusion

Ints = NDArray[np.int64]

_CELLS_AT_ONCE = 4_000_000


def grouped_class_intervals(
    sample: Sample, labels: Ints, index: Ints, classes: int
) -> dict[str, tuple[Floats, Floats]]:
    """Low and high of each class's precision, recall and F1, each (C,), from labels and answers (N,)."""
    hits = labels == index
    wrong = np.flatnonzero(~hits)
    rows = np.concatenate([np.arange(len(labels)), wrong])
    either = np.concatenate([labels, index[wrong]])  # F1 = 2J / (1 + J), see `metrics.class_intervals`
    low, high = share_intervals(sample, hits[rows], either, classes, rows)
    return {
        "precision": share_intervals(sample, hits, index, classes),
        "recall": share_intervals(sample, hits, labels, classes),
        "f1": (2 * low / (1 + low), 2 * high / (1 + high)),
    }


def grouped_average_intervals(
    sample: Sample, labels: Ints, index: Ints, classes: int
) -> dict[str, dict[str, Interval]]:
    """Intervals for everything that `metrics.averages` returns, from labels and answers (N,) of a grouped sample.

    Where no class is wrong about anything, nothing spreads; so macro and balanced intervals also span the mean of the
    classes' own ones, weighted ones that of the micro share.
    """
    counts = class_counts(confusion(labels, index, classes))
    values, ends = averages(counts), grouped_class_intervals(sample, labels, index, classes)
    left_out, sizes = _left_out(sample, labels, index, counts)
    groups = len(sizes)
    found: dict[str, dict[str, Interval]] = {}
    for average, scores in left_out.items():
        found[average] = {}
        for score, without in scores.items():
            influence = (without.mean() - without) * (groups - 1) / groups
            found[average][score] = group_interval(
                float(values[average][score]), influence, sizes, confidence=sample.confidence
            )
    micro = share_interval(sample, labels == index)
    found["micro"] = dict.fromkeys(SCORES, micro)
    scores = class_scores(counts)
    for average, score, floor in _floors(counts, scores, ends, micro):
        low, high = found[average][score]
        found[average][score] = (min(low, floor[0]), max(high, floor[1]))
    return found


def _left_out(
    sample: Sample, labels: Ints, index: Ints, counts: ClassCounts
) -> tuple[dict[str, dict[str, Floats]], Ints]:
    """The averages (G,) without each group in turn, and the images of each group."""
    groups = np.arange(len(labels)) if sample.groups is None else sample.groups
    total, classes = int(groups.max()) + 1, counts.true.shape[-1]
    blocks = []
    for start in range(0, total, block := max(1, _CELLS_AT_ONCE // classes)):
        mine = np.flatnonzero((groups >= start) & (groups < start + block))
        shape = (min(block, total - start), classes)
        parts = [
            np.bincount((groups[rows] - start) * classes + key[rows], minlength=shape[0] * classes).reshape(shape)
            for key, rows in ((labels, mine[labels[mine] == index[mine]]), (labels, mine), (index, mine))
        ]
        rest = [whole - part for whole, part in zip((counts.hits, counts.true, counts.answered), parts, strict=True)]
        blocks.append(averages(ClassCounts(hits=rest[0], true=rest[1], answered=rest[2])))
    kinds = [(average, score) for average in blocks[0] if average != "micro" for score in blocks[0][average]]
    joined: dict[str, dict[str, Floats]] = {}
    for average, score in kinds:
        joined.setdefault(average, {})[score] = np.concatenate([block[average][score] for block in blocks])
    return joined, np.bincount(groups)


def _floors(
    counts: ClassCounts, scores: dict[str, Floats], ends: dict[str, tuple[Floats, Floats]], micro: Interval
) -> list[tuple[str, str, Interval]]:
    wanted = [("macro", score, counts.present) for score in SCORES] + [("balanced", "recall", counts.true > 0)]
    own = [
        (average, score, mean_interval(scores[score][keep], ends[score][0][keep], ends[score][1][keep]))
        for average, score, keep in wanted
    ]
    return own + [("weighted", score, micro) for score in SCORES]
