"""Out-of-fold probabilities: what a linear model on frozen features says about every image without having seen it, its
copies or its group. Suspected label errors are read from them (`data.checks.labels`). NumPy only.

Ridge regression onto the classes (`data.held_out`), a softmax whose factor and penalty are chosen by held-out log loss,
and a second fit in which labels that the first one doubts count less, so that wrong labels teach less.

Shapes: N rows, D features, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.data.assign import assign
from sortal.data.held_out import Sums, collect, scores_of_fold

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

STRENGTHS = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Penalties that are tried, as multiples of the features' mean variance."""
LEAST_WEIGHT = 0.02
MOST_FEATURES = 2048
_FACTORS = np.geomspace(1.0, 64.0, 25)
_BLOCK = 8192


def out_of_fold(
    features: Singles, labels: Ints, units: Ints, classes: int, *, folds: int = 5, seed: int = 0
) -> Singles:
    """(N, K) probabilities of (N, D) features from fits that never saw rows of the same `units` (N,).

    Rows of NaN where the label is -1 or a feature is not finite, and everywhere where fewer than two units or classes
    are left.
    """
    found = np.full((len(features), classes), np.nan, np.float32)
    rows = np.flatnonzero((labels >= 0) & np.isfinite(features).all(axis=1))
    count = min(folds, len(np.unique(units[rows])))
    if count < 2 or len(np.unique(labels[rows])) < 2:
        return found
    x, y = _narrowed(features[rows], seed), labels[rows]
    generator = np.random.Generator(np.random.Philox(key=seed))
    dealt = assign(y, units[rows], [1 / count] * count, generator)
    sums = collect(x, y, dealt, classes)
    strength = _strength(sums, x, y, dealt)
    first = _probabilities(_scores(sums, x, dealt, strength), y, np.ones(len(y), np.float32))
    trust = _trust(first, y)
    second = _scores(collect(x, y, dealt, classes, weights=trust), x, dealt, strength)
    found[rows] = _probabilities(second, y, trust)
    return found


def _scores(sums: Sums, x: Singles, dealt: Ints, strength: float) -> Singles:
    """(N, K) held-out scores of all folds."""
    scores = np.empty((len(x), sums.counts.shape[1]), np.float32)
    for fold in range(len(sums.counts)):
        rows = np.flatnonzero(dealt == fold)
        scores[rows] = scores_of_fold(sums, x[rows], fold, strength)
    return scores


def _strength(sums: Sums, x: Singles, y: Ints, dealt: Ints) -> float:
    """The penalty with the lowest log loss, each at its best factor, on the first fold."""
    rows = np.flatnonzero(dealt == 0)
    losses = [_best(scores_of_fold(sums, x[rows], 0, strength), y[rows])[1] for strength in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))]


def _probabilities(scores: Singles, y: Ints, trust: Singles) -> Singles:
    """(N, K) softmax of scores times the factor with the lowest log loss on labels that are trusted."""
    trusted = np.flatnonzero(trust >= 0.5)
    factor, _ = _best(scores[trusted], y[trusted])
    logits = scores * np.float32(factor)
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _best(scores: Singles, y: Ints) -> tuple[float, float]:
    losses = [_log_loss(scores, y, factor) for factor in _FACTORS]
    best = int(np.argmin(losses))
    return float(_FACTORS[best]), losses[best]


def _log_loss(scores: Singles, y: Ints, factor: float) -> float:
    total = 0.0
    for start in range(0, len(y), _BLOCK):
        logits = scores[start : start + _BLOCK] * np.float32(factor)
        logits -= logits.max(axis=1, keepdims=True)
        given = logits[np.arange(len(logits)), y[start : start + _BLOCK]]
        total += float((np.log(np.exp(logits).sum(axis=1)) - given).sum())
    return total / max(len(y), 1)


def _trust(probabilities: Singles, y: Ints) -> Singles:
    """(N,) 1 where the label is at least as probable as every other class, towards 0 the more another is."""
    rows = np.arange(len(y))
    given = probabilities[rows, y]
    others = probabilities.copy()
    others[rows, y] = 0.0
    doubt = others.max(axis=1) / np.maximum(others.max(axis=1) + given, 1e-12)
    return np.clip(2.0 * (1.0 - doubt), LEAST_WEIGHT, 1.0).astype(np.float32)


def _narrowed(x: Singles, seed: int) -> Singles:
    """At most MOST_FEATURES numbers a row: the axes along which a sample of rows spreads most."""
    if x.shape[1] <= MOST_FEATURES:
        return x
    generator = np.random.Generator(np.random.Philox(key=seed))
    sample = x[generator.permutation(len(x))[: 2 * MOST_FEATURES]]
    _, _, axes = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)
    return np.asarray(x @ axes[:MOST_FEATURES].T, np.float32)
