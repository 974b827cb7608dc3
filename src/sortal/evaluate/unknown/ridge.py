"""A quick classifier on embeddings, for the classes that are kept while others are left out: ridge regression onto the
classes, its scores made logits by one factor. The exported network knows all classes and cannot stand in for it.

Shapes: N training images, M others, D embedding dimensions, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PENALTY = 0.5
"""Times the mean variance of the features; between what validation images choose on the sets measured here."""
_FACTORS = np.geomspace(1.0, 64.0, 19)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class QuickHead:
    """logits = ((embedding - mean) @ weight + prior) * factor."""

    mean: Floats
    weight: Floats
    """(D, C)"""
    prior: Floats
    factor: float

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(M, C)"""
        scores: Floats = (embeddings.astype(np.float64) - self.mean) @ self.weight + self.prior
        return (scores * self.factor).astype(np.float32)


def fit_quick_head(
    embeddings: NDArray[np.float32], labels: Ints, held: NDArray[np.float32], held_labels: Ints, classes: int
) -> QuickHead:
    """From images (N, D) of labels (N,); `held` (M, D) of the same classes choose the factor by log loss."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    centered = embeddings - mean.astype(np.float32)
    targets = np.eye(classes)[labels]
    prior = targets.mean(axis=0)
    weight = _solve(centered, targets - prior)
    scores = (held.astype(np.float64) - mean) @ weight + prior
    factor = min(_FACTORS, key=lambda factor: _log_loss(scores * factor, held_labels))
    return QuickHead(mean=mean, weight=weight, prior=prior, factor=float(factor))


def _solve(centered: NDArray[np.float32], targets: Floats) -> Floats:
    """(D, C), from whichever of the two normal equations is smaller."""
    count, width = centered.shape
    penalty = PENALTY * max(float(np.square(centered).sum(dtype=np.float64)) / width, 1e-30)
    if count < width:
        inner = (centered @ centered.T).astype(np.float64)
        return np.asarray(centered.T @ np.linalg.solve(inner + penalty * np.eye(count), targets))
    outer = (centered.T @ centered).astype(np.float64)
    return np.asarray(np.linalg.solve(outer + penalty * np.eye(width), centered.T @ targets))


def _log_loss(logits: Floats, labels: Ints) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - own).mean())
