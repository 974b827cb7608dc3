"""The simplest model of a class from columns of a table: naive Bayes on binned columns, judged on rows held out.

Numbers are cut at their quantiles, texts keep their most frequent values; a null is a value of its own. Shapes: N rows,
C columns, B bins, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]

BINS = 24
"""Of a column: distinct values where there are no more of them, quantiles or the most frequent values else."""


def binned(column: pl.Series) -> Ints:
    """(N,) bin numbers 0 to BINS; 0 is null."""
    values = column.fill_nan(None) if column.dtype.is_float() else column
    if values.n_unique() <= BINS or not values.dtype.is_numeric():
        counts = values.drop_nulls().value_counts(sort=True).head(BINS - 1)
        table = {value: number for number, value in enumerate(sorted(counts.to_series(0).to_list()), start=1)}
        if not table:
            return np.zeros(len(values), np.int64)
        numbered = values.replace_strict(table, default=BINS, return_dtype=pl.Int64)
        return np.where(values.is_null().to_numpy(), 0, numbered.to_numpy())
    numbers = values.cast(pl.Float64).to_numpy()
    known = np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, BINS)[1:-1]))
    return np.where(known, 1 + np.searchsorted(edges, numbers, side="right"), 0).astype(np.int64)


def held_out_answers(bins: Sequence[Ints], labels: Ints, folds: Ints, classes: int) -> Ints:
    """(N,) classes that naive Bayes on C binned columns answers for each row, fitted on the other folds.

    Counts are smoothed by one row spread over the classes like all rows.
    """
    answers = np.empty(len(labels), np.int64)
    for fold in range(int(folds.max(initial=0)) + 1):
        held, seen = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        counts = np.bincount(labels[seen], minlength=classes).astype(np.float64) + 1e-3
        prior: NDArray[np.float64] = counts / counts.sum()
        total = np.tile(np.log(prior), (len(held), 1))
        for column in bins:
            total = total + _evidence(column, labels, seen, prior)[column[held]]
        answers[held] = total.argmax(1)
    return answers


def _evidence(column: Ints, labels: Ints, seen: Ints, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, K) log of how much likelier a class is in a bin than anywhere."""
    classes = len(prior)
    counts = np.bincount(column[seen] * classes + labels[seen], minlength=(BINS + 1) * classes)
    table = counts.reshape(-1, classes) + prior
    return np.asarray(np.log(table / table.sum(1, keepdims=True)) - np.log(prior))
