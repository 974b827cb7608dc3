"""A linear head on frozen features by ridge regression onto the classes: a closed form for every strength at once.

Few images a class and many features are its field: least squares pulls every class together as tightly as any other,
where cross-entropy stops caring about images that are right already. Leave-one-out answers cost nothing more (Allen
1974, PRESS), so strengths can be compared on the training images themselves. Regression scores are no logits: they are
multiplied by one factor, chosen by log loss, which changes no answer.

Shapes: N images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.train.axes import principal_axes
from sortal.train.probe import LinearHead, single_thread_when_small

STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Penalties that are tried, as multiples of the features' mean variance."""
MIDDLE_SHARE = 0.5
"""Spread of features of middle stages against that of the last, which knows classes best."""
_FACTORS = np.geomspace(1.0, 64.0, 49)
"""From scores between 0 and 1 to logits."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RidgeChoice:
    """What was chosen, by what, and the head."""

    strength: float
    factor: float
    """From regression scores to logits."""
    tried: tuple[tuple[float, float, float], ...]
    """(strength, log loss, accuracy), in the order tried."""
    head: LinearHead
    """Fitted on the training images alone."""


class Ridge:
    """Features centered and rotated once; solved for any strength. `weights` (N,), of mean 1, count images."""

    def __init__(self, features: NDArray[Any], labels: Ints, classes: int, *, weights: Floats | None = None):
        with single_thread_when_small(len(features) * features.shape[1] ** 2):
            x = torch.from_numpy(np.ascontiguousarray(features)).double()
            w = torch.ones(len(x), dtype=torch.float64) if weights is None else torch.from_numpy(weights)
            self._mean = (w[:, None] * x).sum(0) / w.sum()
            targets = torch.nn.functional.one_hot(torch.from_numpy(labels), classes).double()
            self._prior = (w[:, None] * targets).sum(0) / w.sum()
            root = w.sqrt()[:, None]
            centered = (x - self._mean) * root
            self._unit = float(centered.square().sum() / x.shape[1])
            self._variances, self._axes = principal_axes(centered)
            self._rotated, self._root = centered @ self._axes, root
            self._moments = self._rotated.T @ ((targets - self._prior) * root)
            self._targets, self._total = targets, float(w.sum())

    def scores(self, strength: float, features: NDArray[Any]) -> Floats:
        """(M, C) regression scores of other features (M, D), about 1 for the class and 0 for the others."""
        other = torch.from_numpy(np.ascontiguousarray(features)).double() - self._mean
        return np.asarray((other @ (self._axes @ self._solution(strength)) + self._prior).numpy())

    def left_out(self, strength: float) -> Floats:
        """(N, C) scores of every training image from a fit without it, in closed form."""
        shrunk = self._rotated / (self._variances + strength * self._unit)
        leverage = (shrunk * self._rotated).sum(1, keepdim=True) + self._root.square() / self._total
        fitted = self._rotated @ self._solution(strength) / self._root + self._prior
        residual = (self._targets - fitted) / (1.0 - leverage).clamp(min=1e-6)
        return np.asarray((self._targets - residual).numpy())

    def head(self, strength: float, factor: float) -> LinearHead:
        """The head whose logits are `factor` times the scores."""
        weight = (self._axes @ self._solution(strength)).T * factor
        bias = self._prior * factor - weight @ self._mean
        return LinearHead(weight=weight.contiguous().numpy(), bias=bias.numpy())

    def _solution(self, strength: float) -> torch.Tensor:
        shrunk: torch.Tensor = self._moments / (self._variances + strength * self._unit)[:, None]
        return shrunk


def choose_ridge(
    features: NDArray[Any],
    labels: Ints,
    val_features: NDArray[Any],
    val_labels: Ints,
    classes: int,
    *,
    weights: Floats | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> RidgeChoice:
    """The strength with the lowest log loss (each at its best factor) on validation images, leave-one-out on the
    training images where there are none, and the head fitted on the training images."""
    problem = Ridge(features, labels, classes, weights=weights)
    tried, factors = list[tuple[float, float, float]](), list[float]()
    for strength in strengths:
        scores = problem.scores(strength, val_features) if len(val_labels) else problem.left_out(strength)
        truth = val_labels if len(val_labels) else labels
        factor, loss = best_factor(scores, truth)
        tried.append((strength, loss, float((scores.argmax(axis=1) == truth).mean())))
        factors.append(factor)
    best = min(range(len(tried)), key=lambda i: tried[i][1])
    return RidgeChoice(
        strength=tried[best][0],
        factor=factors[best],
        tried=tuple(tried),
        head=problem.head(tried[best][0], factors[best]),
    )


def fit_ridge(
    features: NDArray[Any], labels: Ints, classes: int, *, strength: float, factor: float, weights: Floats | None = None
) -> LinearHead:
    """The head of a strength and factor that were chosen before."""
    return Ridge(features, labels, classes, weights=weights).head(strength, factor)


def balanced_scales(features: NDArray[Any], parts: Sequence[int]) -> Floats:
    """(D,) factors that give each of the `parts` (widths that sum to D) the same total variance, and those behind the
    first, which come from middle stages, half as much spread.

    Without them a penalty would weigh on a part by the accident of its units.
    """
    found, begin = np.empty(features.shape[1]), 0
    for number, width in enumerate(parts):
        block = features[:, begin : begin + width].astype(np.float64)
        spread = float(np.sqrt(block.var(axis=0).sum())) or 1.0
        found[begin : begin + width] = (1.0 if number == 0 else MIDDLE_SHARE) / spread
        begin += width
    return found


def best_factor(scores: Floats, labels: Ints) -> tuple[float, float]:
    """The factor on (N, C) scores with the lowest log loss, and that loss."""
    rows = np.arange(len(labels))
    losses = [_log_loss(scores * factor, labels, rows) for factor in _FACTORS]
    best = int(np.argmin(losses))
    return float(_FACTORS[best]), float(losses[best])


def _log_loss(logits: Floats, labels: Ints, rows: Ints) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, labels]).mean())
