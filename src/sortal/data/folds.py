"""Folds of a cross-validation: every unit in one, each with its share of every class as far as units allow."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.data.assign import assign
from sortal.data.split import generator_of
from sortal.data.table import ImageTable, finding
from sortal.data.units import artificial, units

FOLD = "fold"


def with_folds(table: ImageTable, count: int, *, seed: int) -> ImageTable:
    """The table with a column `fold`, 0 to count - 1: the rows to be held out together, the rest trains.

    Test rows, synthetic ones and rows without a label have none. A class of fewer units than folds is missing in some,
    and one of a single unit can never be recognized where it is held out: finding `class_of_one_unit`. Raises DataError
    for fewer than two folds, or fewer units than folds.
    """
    labels = table.label_array()
    tested = (table.frame["split"] == "test").fill_null(value=False).to_numpy()
    pool = np.flatnonzero((labels >= 0) & ~artificial(table) & ~tested)
    kept = units(table)[pool]
    if count < 2:
        raise DataError("a cross-validation has two folds or more", where="folds", received=str(count))
    if len(np.unique(kept)) < count:
        raise DataError("fewer units that may be separated than folds", where="folds", received=str(count))
    numbers = np.full(len(table), -1, np.int64)
    numbers[pool] = assign(labels[pool], kept, [1 / count] * count, generator_of(seed))
    done = table.with_columns({FOLD: pl.Series(numbers).set(pl.Series(numbers < 0), None)})
    alone = classes_of_one_unit(labels[pool], kept, len(table.labels))
    if not len(alone):
        return done
    names = [table.labels.names[label] for label in alone]
    message = (
        f"{len(names)} classes are one unit each: where it is held out, nothing of them trains ({', '.join(names[:5])})"
    )
    hint = "take pictures of these classes on another day or of another object"
    return done.with_findings(finding("class_of_one_unit", "warning", message, names, hint))


def classes_of_one_unit(labels: NDArray[np.int64], kept: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Classes whose rows (N,) are all of one unit (N,)."""
    pairs = np.unique(np.stack([labels, kept]), axis=1)[0]
    return np.flatnonzero(np.bincount(pairs, minlength=classes) == 1)
