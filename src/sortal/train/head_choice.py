"""Which linear head on frozen features: logistic or ridge regression, how strongly penalized, for which remedy.

Validation images choose; where there are none, logistic regression is cross-validated by groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.data.table import ImageTable
from sortal.train.context import Context
from sortal.train.features import Features
from sortal.train.probe import Choice, LinearHead, choose_strength, cross_validate
from sortal.train.ridge import RidgeChoice, balanced_scales, choose_ridge, fit_ridge
from sortal.train.scores import score
from sortal.train.weighted_head import adjustment_of, fit_weighted_head, resampled

Kind = Literal["logistic", "ridge"]


@dataclass(frozen=True, kw_only=True)
class HeadChoice:
    """What was chosen, and the head fitted on the training images alone, for features as they come."""

    kind: Kind
    strength: float
    factor: float
    """From ridge scores to logits; 1 for logistic regression."""
    tried: tuple[tuple[Kind, float, float, float], ...]
    """(kind, strength, log loss, accuracy) in the order tried."""
    head: LinearHead
    scales: NDArray[np.float64]
    """(D,) what features are multiplied with before fitting."""
    logistic_strength: float
    """The best penalty of logistic regression, also where ridge regression was chosen."""

    @property
    def note(self) -> str:
        """In words."""
        tried = ", ".join(f"{kind} {strength:g}: {loss:.3f}/{right:.3f}" for kind, strength, loss, right in self.tried)
        return f"Head: {self.kind} regression, penalty {self.strength:g} (log loss/accuracy of {tried})."


def choose_head(context: Context, train: Features, val: Features, parts: tuple[int, ...]) -> HeadChoice:
    """The best of the heads that `train.head_fit` allows. `parts` are the widths that the features consist of."""
    scales = balanced_scales(train.values, parts) if len(parts) > 1 else np.ones(train.values.shape[1])
    train, val = scaled(train, scales), scaled(val, scales)
    logistic = _logistic(context, train, val)
    asked, classes = context.recipe.train.head_fit, context.classes
    if asked == "logistic" or (asked == "auto" and not len(val.rows)):
        return _from_logistic(logistic, scales)
    ridge = choose_ridge(train.values, train.labels, val.values, val.labels, classes)
    if asked == "auto" and not _better(context, ridge, logistic, val):
        return replace(_from_logistic(logistic, scales), tried=(*_tried("logistic", logistic), *_tried("ridge", ridge)))
    return HeadChoice(
        kind="ridge",
        strength=ridge.strength,
        factor=ridge.factor,
        tried=(*_tried("logistic", logistic), *_tried("ridge", ridge)),
        head=unscaled(ridge.head, scales),
        scales=scales,
        logistic_strength=logistic.strength,
    )


def fit_chosen(context: Context, choice: HeadChoice, features: Features) -> LinearHead:
    """The chosen kind of head on these features, with the context's remedy for unequal classes.

    Ridge regression has no logits to adjust while it is fitted: offsets are taken off afterwards, which comes to the
    same for well-fitted probabilities (Menon et al. 2021, section 4).
    """
    section, classes, seed = context.recipe.loss, context.classes, context.recipe.seed
    values = features.values * choice.scales
    if choice.kind == "logistic":
        found = fit_weighted_head(
            values,
            features.labels,
            classes,
            strength=choice.strength,
            remedy=context.remedy,
            section=section,
            seed=seed,
        )
        return unscaled(found, choice.scales)
    values, labels = resampled(values, features.labels, classes, context.remedy, seed)
    adjustment = adjustment_of(context.remedy, labels, classes, section)
    found = fit_ridge(
        values, labels, classes, strength=choice.strength, factor=choice.factor, weights=adjustment.weights
    )
    offsets = np.zeros(classes) if adjustment.offsets is None else adjustment.offsets
    return unscaled(replace(found, bias=found.bias - offsets), choice.scales)


def joined(one: Features, other: Features) -> Features:
    """Both, the first first."""
    return Features(
        values=np.concatenate([one.values, other.values]),
        labels=np.concatenate([one.labels, other.labels]),
        rows=np.concatenate([one.rows, other.rows]),
    )


def fold_groups(table: ImageTable, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    """What cross-validation keeps together: the group where there is one, else identical files, else the row itself."""
    frame = table.frame[rows]
    keys = [
        group or digest or f"row {row}"
        for row, group, digest in zip(rows, frame["group"].to_list(), frame["digest"].to_list(), strict=True)
    ]
    return np.array(keys, dtype=object)


def scaled(features: Features, scales: NDArray[np.float64]) -> Features:
    """With every number multiplied by its scale."""
    if not len(features.rows):
        return features
    return replace(features, values=(features.values * scales).astype(np.float32))


def unscaled(head: LinearHead, scales: NDArray[np.float64]) -> LinearHead:
    """For features as they come, from a head for scaled ones."""
    return replace(head, weight=head.weight * scales)


def _logistic(context: Context, train: Features, val: Features) -> Choice:
    if len(val.rows):
        return choose_strength(train.values, train.labels, val.values, val.labels, context.classes)
    groups = fold_groups(context.table, train.rows)
    return cross_validate(train.values, train.labels, groups, context.classes, seed=context.recipe.seed)


def _from_logistic(found: Choice, scales: NDArray[np.float64]) -> HeadChoice:
    return HeadChoice(
        kind="logistic",
        strength=found.strength,
        factor=1.0,
        tried=_tried("logistic", found),
        head=unscaled(found.head, scales),
        scales=scales,
        logistic_strength=found.strength,
    )


def _better(context: Context, ridge: RidgeChoice, logistic: Choice, val: Features) -> bool:
    one, other = (score(found.head.logits(val.values), val.labels) for found in (ridge, logistic))
    return one.better(other, context.recipe.train.metric)


def _tried(kind: Kind, found: Choice | RidgeChoice) -> tuple[tuple[Kind, float, float, float], ...]:
    return tuple((kind, strength, loss, right) for strength, loss, right in found.tried)
