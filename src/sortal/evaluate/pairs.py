"""Which classes are taken for which, how often, and what to do about each pair.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Table
from sortal.evaluate.measure.grouped import Sample, share_interval
from sortal.evaluate.measure.metrics import confused_pairs
from sortal.evaluate.tables import RARE_BELOW

Ints = NDArray[np.int64]

SURE = 0.9
"""Mistakes of this mean probability look like wrong labels rather than doubt."""


def pairs_table(
    names: Sequence[str],
    labels: Ints,
    index: Ints,
    probability: NDArray[np.float32],
    matrix: Ints,
    sample: Sample,
    *,
    parents: Sequence[int] | None = None,
    train_counts: Ints | None = None,
    limit: int = 30,
) -> Table:
    """The most frequent mistakes: `share` is the rate, the count out of the true class's images, with its interval;
    then what to do. `probability` (N,) is that of the answer."""
    rows = []
    for true, answered, count in confused_pairs(matrix, limit):
        own = labels == true
        low, high = share_interval(sample, own & (index == answered), own)
        sure = float(probability[own & (index == answered)].mean())
        action = _action(names, matrix, true, answered, sure, parents, train_counts)
        rows.append((names[true], names[answered], count, count / int(own.sum()), low, high, action))
    columns = ("true", "answered", "count", "share", "share_low", "share_high", "suggestion")
    return Table(columns=columns, rows=tuple(rows))


def _action(
    names: Sequence[str],
    matrix: Ints,
    true: int,
    answered: int,
    sure: float,
    parents: Sequence[int] | None,
    train_counts: Ints | None,
) -> str:
    there, back = int(matrix[true, answered]), int(matrix[answered, true])
    if sure >= SURE:
        return f"the classifier is sure ({sure:.0%}): are the labels right (sortal audit)? If so, add images like these"
    if train_counts is not None and train_counts[true] < RARE_BELOW:
        return f"add images of “{names[true]}”: it had {train_counts[true]:,} in training"
    if 3 * back >= there and there > 1:
        if parents is not None and parents[true] == parents[answered]:
            return "confused both ways within a family: answer the family where the kind is unsure, or merge the two"
        return "confused both ways: if people cannot tell them apart either, merge them; else add images of both"
    if train_counts is not None and train_counts[answered] >= 2 * train_counts[true]:
        return f"“{names[answered]}” had more images: add some of “{names[true]}”, or train with loss.imbalance=auto"
    return f"add images of “{names[true]}” that look like “{names[answered]}”; a larger input.size shows finer detail"
