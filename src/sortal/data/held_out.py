"""Answers about rows by a model that never saw them: ridge regression onto the classes, one fit for each fold.

A fit needs only sums over rows (of features, of their products, of features by class), so one pass collects them for
each fold and the sums of all but one fold are a subtraction. Fits are exact; memory does not grow with the rows.

Shapes: N rows, D features, K classes, F folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Weighted sums over the rows of each fold. Features are counted from `origin`, which keeps them small."""

    origin: Singles
    """(D,)"""
    counts: Floats
    """(F, K)"""
    totals: Floats
    """(F, D)"""
    products: Floats
    """(F, D, D)"""
    moments: Floats
    """(F, D, K): features summed by class."""


def collect(
    features: Singles, labels: Ints, folds: Ints, classes: int, *, weights: NDArray[np.float32] | None = None
) -> Sums:
    """The sums over (N, D) features with (N,) labels of 0 or more and fold numbers; `weights` (N,) count rows."""
    count, width = int(folds.max(initial=0)) + 1, features.shape[1]
    origin = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    shape = (count, width)
    sums = Sums(
        origin=origin,
        counts=np.zeros((count, classes)),
        totals=np.zeros(shape),
        products=np.zeros((*shape, width)),
        moments=np.zeros((*shape, classes)),
    )
    for fold in range(count):
        rows = np.flatnonzero(folds == fold)
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            _add(sums, fold, features[part] - origin, labels[part], None if weights is None else weights[part])
    return sums


def scores_of_fold(sums: Sums, features: Singles, fold: int, strength: float) -> Singles:
    """(M, K) scores of the fold's features (M, D), about 1 for the class and 0 for others, fitted on the other folds.

    `strength` is the penalty as a multiple of the features' mean variance times their number. A class that only this
    fold has scores 0.
    """
    counts = sums.counts.sum(0) - sums.counts[fold]
    total = max(float(counts.sum()), 1e-12)
    mean = (sums.totals.sum(0) - sums.totals[fold]) / total
    prior = counts / total
    scatter = sums.products.sum(0) - sums.products[fold] - total * np.outer(mean, mean)
    moments = sums.moments.sum(0) - sums.moments[fold] - np.outer(mean, counts)
    unit = max(float(np.trace(scatter)) / len(mean), 1e-12)
    scatter[np.diag_indices_from(scatter)] += strength * unit
    weight = np.linalg.solve(scatter, moments)
    shift = prior - mean @ weight
    return np.asarray((features - sums.origin) @ weight.astype(np.float32) + shift.astype(np.float32), np.float32)


def held_out_scores(features: Singles, labels: Ints, folds: Ints, classes: int, *, strength: float) -> Singles:
    """(N, K) scores of every row from a fit on the other folds."""
    sums = collect(features, labels, folds, classes)
    scores = np.empty((len(features), classes), np.float32)
    for fold in range(len(sums.counts)):
        rows = np.flatnonzero(folds == fold)
        scores[rows] = scores_of_fold(sums, features[rows], fold, strength)
    return scores


def _add(sums: Sums, fold: int, x: Singles, labels: Ints, weights: Singles | None) -> None:
    weight = np.ones(len(x), np.float32) if weights is None else weights
    targets = np.zeros((len(x), sums.counts.shape[1]), np.float32)
    targets[np.arange(len(x)), labels] = weight
    sums.counts[fold] += targets.sum(0, dtype=np.float64)
    sums.totals[fold] += weight @ x
    sums.products[fold] += (x if weights is None else x * weight[:, None]).T @ x
    sums.moments[fold] += x.T @ targets
