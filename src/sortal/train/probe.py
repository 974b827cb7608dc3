"""A linear head on frozen features: multinomial logistic regression with an L2 penalty, solved to convergence.

The objective is scikit-learn's: mean cross-entropy + strength / 2 * |W|^2, with the bias free. Features are divided by
one number (their overall spread), so that a strength means the same for every backbone. The solver is L-BFGS in
coordinates in which the curvature is about equal in all directions (Böhning 1992 bounds the Hessian by the covariance).
Strengths are compared by quick solutions in float32; the chosen one is then solved to convergence in float64.

Shapes: N images, D features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.train.randomness import generator

STRENGTHS = (0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003)
"""Penalties that are tried, strongest first: each solution is the start of the next."""

_PATIENCE = 2
"""Strengths without a lower validation loss after which the rest are not tried."""
_FOLDS = 5
_CURVATURE = 0.05
"""Mean curvature of a softmax relative to the features' covariance; only speed depends on it."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """logits = features @ weight.T + bias."""

    weight: Floats
    """(C, D)"""
    bias: Floats
    """(C,)"""

    def logits(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(N, D) to (N, C)."""
        scores: Floats = features.astype(np.float64) @ self.weight.T + self.bias
        return scores.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which strength was chosen and what it was chosen by."""

    strength: float
    tried: tuple[tuple[float, float, float], ...]
    """(strength, validation log loss, validation accuracy), in the order tried."""
    head: LinearHead
    """Fitted on the training images alone, with the chosen strength; averaged over folds it would be nobody's head."""


def choose_strength(
    features: NDArray[Any], labels: Ints, val_features: NDArray[Any], val_labels: Ints, classes: int
) -> Choice:
    """The strength with the lowest log loss on the validation images, and the head fitted on the training images."""
    tried: list[tuple[float, float, float]] = []
    heads: list[LinearHead] = []
    problem = _Problem(features, labels, classes)
    for strength in STRENGTHS:
        heads.append(problem.solve(strength, start=heads[-1] if heads else None))
        tried.append((strength, *_score(heads[-1].logits(val_features), val_labels)))
        best = min(range(len(tried)), key=lambda i: tried[i][1])
        if len(tried) - 1 - best >= _PATIENCE:
            break
    head = problem.solve(tried[best][0], start=heads[best], exact=True)
    return Choice(strength=tried[best][0], tried=tuple(tried), head=head)


def cross_validate(features: NDArray[Any], labels: Ints, groups: NDArray[Any], classes: int, *, seed: int) -> Choice:
    """As `choose_strength`, by five folds that never cut a group, where there are no validation images."""
    fold = _assign_folds(groups, seed)
    losses: dict[float, list[tuple[float, float, int]]] = {}
    for number in range(_FOLDS):
        held = fold == number
        if held.any() and not held.all():
            found = choose_strength(features[~held], labels[~held], features[held], labels[held], classes)
            for strength, loss, accuracy in found.tried:
                losses.setdefault(strength, []).append((loss, accuracy, int(held.sum())))
    if not losses:
        raise DataError("too few groups to choose the strength of the head", received=f"{len(set(groups))} group")
    most = max(len(values) for values in losses.values())
    tried = [(strength, *_weighted(values)) for strength, values in losses.items() if len(values) == most]
    strength = min(tried, key=lambda row: row[1])[0]
    head = fit_head(features, labels, classes, strength=strength)
    return Choice(strength=strength, tried=tuple(tried), head=head)


def fit_head(features: NDArray[Any], labels: Ints, classes: int, *, strength: float) -> LinearHead:
    """The minimum of the objective above for (N, D) features. Classes without an image get a very low bias."""
    problem = _Problem(features, labels, classes)
    return problem.solve(strength, start=problem.solve(strength), exact=True)


class _Problem:
    """Features centered and rotated once; solved for many strengths."""

    def __init__(self, features: NDArray[Any], labels: Ints, classes: int):
        x = features.astype(np.float64)
        self.mean = x.mean(axis=0)
        x -= self.mean
        self.spread = float(np.sqrt(np.mean(x * x))) or 1.0
        x /= self.spread
        variances, self.axes = np.linalg.eigh(x.T @ x / len(x))
        self.variances = np.maximum(variances, 0.0)
        self.rotated = x @ self.axes
        self.labels = torch.from_numpy(np.ascontiguousarray(labels))
        self.counts = np.bincount(labels, minlength=classes)

    def solve(self, strength: float, start: LinearHead | None = None, *, exact: bool = False) -> LinearHead:
        """From `start` (else zero weights) to the minimum: to about four digits, or to convergence where `exact`."""
        kind = torch.float64 if exact else torch.float32
        scale = 1.0 / np.sqrt(self.variances * _CURVATURE + strength)
        x = torch.from_numpy(self.rotated * scale).to(kind)
        penalty = torch.from_numpy(strength * scale * scale).to(kind)[:, None]
        weight, bias = (torch.from_numpy(v).to(kind).requires_grad_() for v in self._initial(scale, start))
        steps, tolerance = (100, 1e-8) if exact else (50, 1e-5)
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=steps,
            history_size=10,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-6,
            tolerance_change=tolerance,
        )

        def objective() -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(x @ weight + bias, self.labels)
            loss = loss + 0.5 * (penalty * weight * weight).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(objective)  # type: ignore[no-untyped-call]
        found = weight.detach().double().numpy() * scale[:, None]
        return self._head(found, bias.detach().double().numpy())

    def _initial(self, scale: Floats, start: LinearHead | None) -> tuple[Floats, Floats]:
        classes = len(self.counts)
        if start is None:
            return np.zeros((len(scale), classes)), np.log((self.counts + 0.1) / (self.counts.sum() + 0.1 * classes))
        weight = self.axes.T @ (start.weight.T * self.spread) / scale[:, None]
        return weight, start.bias + start.weight @ self.mean

    def _head(self, weight: Floats, bias: Floats) -> LinearHead:
        """Back from rotated, centered, scaled features to the features as they come."""
        full = (self.axes @ weight / self.spread).T
        return LinearHead(weight=np.ascontiguousarray(full), bias=bias - full @ self.mean)


def _assign_folds(groups: NDArray[Any], seed: int) -> Ints:
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    random = generator(seed, "folds").permutation(len(sizes))
    fold_of, load = np.empty(len(sizes), np.int64), np.zeros(_FOLDS)
    for number in random[np.argsort(-sizes[random], kind="stable")]:
        fold_of[number] = int(load.argmin())
        load[fold_of[number]] += sizes[number]
    return fold_of[group]


def _score(logits: NDArray[np.float32], labels: Ints) -> tuple[float, float]:
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]
    return float(loss.mean()), float((scores.argmax(axis=1) == labels).mean())


def _weighted(values: list[tuple[float, float, int]]) -> tuple[float, float]:
    images = sum(count for _, _, count in values)
    loss, accuracy = (sum(value[i] * value[2] for value in values) / images for i in (0, 1))
    return float(loss), float(accuracy)
