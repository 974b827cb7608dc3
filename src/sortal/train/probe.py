"""A linear head on frozen features: multinomial logistic regression with an L2 penalty, solved to convergence.

The objective is scikit-learn's: mean cross-entropy + strength / 2 * |W|^2, with the bias free. Features are divided by
one number (their overall spread), so that a strength means the same for every backbone. The solver is L-BFGS in
coordinates in which the curvature is about equal in all directions (Böhning 1992 bounds the Hessian by the covariance).
Strengths are compared by quick solutions in float32; the chosen one is then solved to convergence in float64.

Shapes: N images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.train.axes import principal_axes
from sortal.train.randomness import generator

STRENGTHS = (0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003)
"""Penalties that are tried, strongest first: each solution is the start of the next."""

_PATIENCE = 2
"""Strengths without a lower validation loss after which the rest are not tried."""
_FOLDS = 5
_CURVATURE = 0.05
"""Mean curvature of a softmax relative to the features' covariance; only speed depends on it."""

_SMALL = 100_000_000
"""Multiplications of one pass (N * D * C) below which one thread is used."""

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
class Adjustment:
    """What makes up for unequal class sizes in the objective; None leaves it out."""

    weights: Floats | None = None
    """(N,) factors on the images' losses; their mean should be 1, or the penalty weighs differently."""
    offsets: Floats | None = None
    """(C,) added to the logits while fitting, and not when answering."""
    gamma: float = 0.0
    """Of the focal loss."""

    @property
    def plain(self) -> bool:
        """True where nothing is adjusted."""
        return self.weights is None and self.offsets is None and self.gamma == 0.0


PLAIN = Adjustment()


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
    with single_thread_when_small(len(features) * features.shape[1] * classes):
        problem = _Problem(features)
        tried, heads = _search(problem, np.arange(len(features)), labels, val_features, val_labels, classes)
        best = min(range(len(tried)), key=lambda i: tried[i][1])
        head = problem.solve(labels, classes, tried[best][0], start=heads[best], exact=True)
    return Choice(strength=tried[best][0], tried=tuple(tried), head=head)


def cross_validate(features: NDArray[Any], labels: Ints, groups: NDArray[Any], classes: int, *, seed: int) -> Choice:
    """As `choose_strength`, by five folds that never cut a group, where there are no validation images."""
    fold = _assign_folds(groups, seed)
    losses: dict[float, list[tuple[float, float, int]]] = {}
    with single_thread_when_small(len(features) * features.shape[1] * classes):
        problem = _Problem(features)
        for number in range(_FOLDS):
            held, kept = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            if not len(held) or not len(kept):
                continue
            found, _ = _search(problem, kept, labels[kept], features[held], labels[held], classes)
            for strength, loss, accuracy in found:
                losses.setdefault(strength, []).append((loss, accuracy, len(held)))
        if not losses:
            raise DataError("too few groups to choose the strength of the head", received=f"{len(set(groups))} group")
        most = max(len(values) for values in losses.values())
        tried = [(strength, *_weighted(values)) for strength, values in losses.items() if len(values) == most]
        strength = min(tried, key=lambda row: row[1])[0]
        start = problem.solve(labels, classes, strength)
        head = problem.solve(labels, classes, strength, start=start, exact=True)
    return Choice(strength=strength, tried=tuple(tried), head=head)


def fit_head(
    features: NDArray[Any], labels: Ints, classes: int, *, strength: float, adjustment: Adjustment = PLAIN
) -> LinearHead:
    """The minimum of the objective above for (N, D) features. Classes without an image get a very low bias."""
    with single_thread_when_small(len(features) * features.shape[1] * classes):
        problem = _Problem(features)
        start = problem.solve(labels, classes, strength, adjustment=adjustment)
        return problem.solve(labels, classes, strength, start=start, exact=True, adjustment=adjustment)


def compare_heads(
    features: NDArray[Any], labels: Ints, classes: int, *, strength: float, adjustments: Sequence[Adjustment]
) -> list[LinearHead]:
    """A quick head, to about four digits, for each of the adjustments."""
    with single_thread_when_small(len(features) * features.shape[1] * classes):
        problem = _Problem(features)
        return [problem.solve(labels, classes, strength, adjustment=adjustment) for adjustment in adjustments]


@contextmanager
def single_thread_when_small(multiplications: int) -> Iterator[None]:
    """One thread inside for small problems: many tiny operations lose more to waiting threads than they win.

    On two busy cores a second thread made the eigenvectors of 1,280 features 20 times slower.
    """
    before = torch.get_num_threads()
    if multiplications < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _search(
    problem: _Problem, rows: Ints, labels: Ints, val_features: NDArray[Any], val_labels: Ints, classes: int
) -> tuple[list[tuple[float, float, float]], list[LinearHead]]:
    """Quick heads for one strength after the other, until the validation loss has risen twice."""
    tried: list[tuple[float, float, float]] = []
    heads: list[LinearHead] = []
    for strength in STRENGTHS:
        heads.append(problem.solve(labels, classes, strength, rows=rows, start=heads[-1] if heads else None))
        tried.append((strength, *_score(heads[-1].logits(val_features), val_labels)))
        best = min(range(len(tried)), key=lambda i: tried[i][1])
        if len(tried) - 1 - best >= _PATIENCE:
            break
    return tried, heads


class _Problem:
    """Features centered and rotated onto their principal axes once; solved for many strengths and subsets of rows."""

    def __init__(self, features: NDArray[Any]):
        x = torch.from_numpy(np.ascontiguousarray(features)).double()
        self.mean = x.mean(dim=0)
        x = x - self.mean
        self.spread = float(x.square().mean().sqrt()) or 1.0
        x = x / self.spread
        sums, axes = principal_axes(x)
        variances = sums / len(x)
        kept = variances > 1e-10 * variances[-1].clamp(min=1e-300)
        self.variances, self.axes = variances[kept], axes[:, kept]
        self.rotated = x @ self.axes

    def solve(
        self,
        labels: Ints,
        classes: int,
        strength: float,
        *,
        rows: Ints | None = None,
        start: LinearHead | None = None,
        exact: bool = False,
        adjustment: Adjustment = PLAIN,
    ) -> LinearHead:
        """From `start` (else zero weights) to the minimum: to about four digits, or to convergence where `exact`.

        `labels` go with `rows` of the features, by default all of them.
        """
        kind = torch.float64 if exact else torch.float32
        scale = 1.0 / torch.sqrt(self.variances * _CURVATURE + strength)
        chosen = self.rotated if rows is None else self.rotated[torch.from_numpy(rows)]
        x = (chosen * scale).to(kind)
        penalty = (strength * scale * scale).to(kind)[:, None]
        targets = torch.from_numpy(np.ascontiguousarray(labels))
        weight, bias = (v.to(kind).requires_grad_() for v in self._initial(scale, targets, classes, start, adjustment))

        mean_loss = _adjusted_loss(adjustment, targets, kind)

        def objective() -> torch.Tensor:
            return mean_loss(x @ weight + bias) + 0.5 * (penalty * weight * weight).sum()

        _minimize(objective, [weight, bias], exact=exact)
        return self._head(weight.detach().double() * scale[:, None], bias.detach().double())

    def _initial(
        self,
        scale: torch.Tensor,
        targets: torch.Tensor,
        classes: int,
        start: LinearHead | None,
        adjustment: Adjustment,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Zero weights and the bias that is best with them, unless there is a `start`."""
        if start is None:
            weights = None if adjustment.weights is None else torch.from_numpy(adjustment.weights)
            counts = torch.bincount(targets, weights, minlength=classes).double()
            bias = torch.log((counts + 0.1) / (counts.sum() + 0.1 * classes))
            bias = bias if adjustment.offsets is None else bias - torch.from_numpy(adjustment.offsets)
            return torch.zeros(len(scale), classes, dtype=torch.float64), bias
        weight, bias = torch.from_numpy(start.weight), torch.from_numpy(start.bias)
        return self.axes.T @ (weight.T * self.spread) / scale[:, None], bias + weight @ self.mean

    def _head(self, weight: torch.Tensor, bias: torch.Tensor) -> LinearHead:
        """Back from rotated, centered, scaled features to the features as they come."""
        full = (self.axes @ weight / self.spread).T.contiguous()
        return LinearHead(weight=full.numpy(), bias=(bias - full @ self.mean).numpy())


def _adjusted_loss(
    adjustment: Adjustment, targets: torch.Tensor, kind: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Mean loss of logits (N, C): cross-entropy, but for what the adjustment says."""
    if adjustment.plain:
        return lambda logits: torch.nn.functional.cross_entropy(logits, targets)
    weights = torch.ones(1) if adjustment.weights is None else torch.from_numpy(adjustment.weights)
    offsets = torch.zeros(1) if adjustment.offsets is None else torch.from_numpy(adjustment.offsets)
    weights, offsets = weights.to(kind), offsets.to(kind)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        costs = torch.nn.functional.cross_entropy(logits + offsets, targets, reduction="none")
        if adjustment.gamma != 0.0:
            costs = costs * (-torch.expm1(-costs)).clamp(min=1e-12).pow(adjustment.gamma)
        return (costs * weights).mean()

    return loss


def _minimize(objective: Callable[[], torch.Tensor], variables: list[torch.Tensor], *, exact: bool) -> None:
    steps, tolerance = (100, 1e-8) if exact else (50, 1e-5)
    optimizer = torch.optim.LBFGS(
        variables,
        max_iter=steps,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,
        tolerance_change=tolerance,
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]


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
