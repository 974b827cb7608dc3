"""Out-of-fold probabilities: what simple models on frozen features say about every image without having seen it, its
copies or its group. Suspected label errors are read from them (`data.checks.labels`). NumPy only.

Ridge regression onto the classes (`data.held_out`), with a softmax whose factor and penalty are chosen by held-out log
loss, mixed with the votes of the nearest neighbors. The ridge knows what tells classes apart, the votes know pictures
of one thing; together they find more planted label errors than either (`benchmarks/label_errors.py`).

Shapes: N rows, D features, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.data.assign import assign
from sortal.data.held_out import Sums, collect, scores_of_fold
from sortal.data.neighbors import nearest, references

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

STRENGTHS = (0.05, 0.1, 0.2, 0.5)
"""Penalties that are tried, as multiples of the features' mean variance."""
RIDGE_SHARE = 0.8
"""Of the mixture; the rest are votes."""
NEIGHBORS = 10
REFERENCES = 10_000
"""Images that may vote, a sample of more."""
VOTE_WIDTH = 0.25
"""Of a vote's bell curve, in units of the typical squared distance to a neighbor."""
ROOT_TOLERANCE = 1.03
"""Roots are taken of features unless held-out log loss grows by more than this factor."""
MOST_FEATURES = 2560
_FACTORS = np.geomspace(1.0, 64.0, 25)
_BLOCK = 8192


def out_of_fold(
    features: Singles, labels: Ints, units: Ints, classes: int, *, folds: int = 5, seed: int = 0
) -> Singles:
    """(N, K) probabilities of (N, D) features from models that never saw rows of the same `units` (N,).

    Rows of NaN where the label is -1 or a feature is not finite, and everywhere where fewer than two units or classes
    are left. Copies must share a unit, or a wrong label is confirmed by its own copy; pictures of one burst may be
    apart, then a wrong label among them shows.
    """
    found = np.full((len(features), classes), np.nan, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.flatnonzero((labels >= 0) & np.isfinite(features.sum(axis=1)))
    count = min(folds, len(np.unique(units[rows])))
    if count < 2 or len(np.unique(labels[rows])) < 2:
        return found
    generator = np.random.Generator(np.random.Philox(key=seed))
    x, y = _narrowed(features[rows], generator), labels[rows]
    _to_unit_length(x)
    dealt = assign(y, units[rows], [1 / count] * count, generator)
    if _gain_by_roots(x, y, dealt, classes):
        _take_roots(x)
    sums = collect(x, y, dealt, classes)
    strength, _ = _strength(sums, x, y, dealt)
    answers = _softmax(_scores(sums, x, dealt, strength), y)
    votes = _votes(x, y, units[rows], classes, seed)
    voted = np.isfinite(votes[:, 0])
    answers[voted] = RIDGE_SHARE * answers[voted] + (1.0 - RIDGE_SHARE) * votes[voted]
    found[rows] = answers
    return found


def _gain_by_roots(x: Singles, y: Ints, dealt: Ints, classes: int) -> bool:
    """Whether roots should be taken of features: judged on a part of the rows.

    The signed square root keeps a few strong features from drowning the rest (Perronnin et al. 2010, "Improving the
    Fisher kernel for large-scale image classification"); what went through it already does not gain by it again.
    """
    part = references(len(x), REFERENCES)
    values = x[part]
    losses: list[float] = []
    for _ in range(2):
        sums = collect(values, y[part], dealt[part], classes)
        losses.append(_strength(sums, values, y[part], dealt[part])[1])
        _take_roots(values)
    return losses[1] <= ROOT_TOLERANCE * losses[0]


def _strength(sums: Sums, x: Singles, y: Ints, dealt: Ints) -> tuple[float, float]:
    """The penalty with the lowest log loss, each at its best factor, on the first fold; and that loss."""
    rows = np.flatnonzero(dealt == 0)
    losses = [_best(scores_of_fold(sums, x[rows], 0, strength), y[rows])[1] for strength in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))], min(losses)


def _scores(sums: Sums, x: Singles, dealt: Ints, strength: float) -> Singles:
    """(N, K) held-out scores of all folds."""
    scores = np.empty((len(x), sums.counts.shape[1]), np.float32)
    for fold in range(len(sums.counts)):
        rows = np.flatnonzero(dealt == fold)
        scores[rows] = scores_of_fold(sums, x[rows], fold, strength)
    return scores


def _softmax(scores: Singles, y: Ints) -> Singles:
    """(N, K) probabilities from scores times the factor with the lowest log loss."""
    factor, _ = _best(scores, y)
    logits: Singles = scores * np.float32(factor)
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


def _votes(x: Singles, y: Ints, units: Ints, classes: int, seed: int) -> Singles:
    """(N, K) shares of the classes among the nearest neighbors of other units, near ones counting more; NaN where a row
    has no neighbor."""
    chosen = references(len(x), REFERENCES, seed=seed)
    near = nearest(x, chosen, units, count=NEIGHBORS)
    known = np.isfinite(near.squares)
    width = max(VOTE_WIDTH * float(np.median(near.squares[known])) if known.any() else 1.0, 1e-6)
    weights = np.where(known, np.exp(-(near.squares - near.squares[:, :1]) / width), 0.0)
    weights[~known[:, 0]] = np.nan
    votes = np.zeros((len(x), classes), np.float32)
    rows = np.broadcast_to(np.arange(len(x))[:, None], near.references.shape)
    np.add.at(votes, (rows, y[chosen[near.references]]), weights / weights.sum(axis=1, keepdims=True))
    votes[~known[:, 0]] = np.nan
    return votes


def _take_roots(x: Singles) -> None:
    """In place and to unit length, block by block: a copy of the features of 100,000 images is half a gigabyte."""
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        block[:] = np.copysign(np.sqrt(np.abs(block)), block)
    _to_unit_length(x)


def _to_unit_length(x: Singles) -> None:
    x /= np.maximum(np.sqrt(np.einsum("nd,nd->n", x, x)), 1e-12)[:, None]


def _narrowed(x: Singles, generator: np.random.Generator) -> Singles:
    """At most MOST_FEATURES numbers a row: a random projection, which keeps distances (Johnson and Lindenstrauss)."""
    if x.shape[1] <= MOST_FEATURES:
        return x
    drawn = generator.standard_normal((x.shape[1], MOST_FEATURES), dtype=np.float32)
    return np.asarray(x @ drawn / np.float32(np.sqrt(MOST_FEATURES)))
