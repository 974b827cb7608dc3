"""Selective answers: thresholds under which a contract's shares of mistakes are promised, as many images answered as
can be.

Three kinds, in this order: a doubt for each class with a floor on its recall (an image is sent to a person where that
class is not the answer but too likely to be passed over), a limit on the expected cost, and one threshold on the
probability of the answer for the share of wrong answers. Each is the most generous one that its test still promises
(see `evaluate.trust.control`); the clauses share what the contract's confidence leaves, so that all hold together.

Where images are too few for any promise, the threshold is the one that looks right on them, and its clause is
`undecided`. The mean cost and the recall move one way with their thresholds, so that no candidate is tested in vain.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec, answers, expected_costs, sent_away
from sortal.core.labels import LabelSet
from sortal.evaluate.measure.costs import cost_matrix
from sortal.evaluate.measure.prevalence import class_mix, image_weights
from sortal.evaluate.trust.control import Evidence, candidates, correlation, counts_of_prefixes, furthest, tail, worth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_Values = TypeVar("_Values", Floats, Ints)

_BELOW = 0.999
"""Doubts lie this far below the probability of the image that they have to catch."""


@dataclass(frozen=True, kw_only=True)
class Sighted:
    """Calibration images as thresholds are fitted on them."""

    chances: NDArray[np.float32]
    """(N, C) calibrated probabilities."""
    labels: Ints
    """(N,) 0..C-1."""
    groups: Ints | None = None
    """(N,) group numbers; None where images are independent."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One clause that a threshold was fitted for."""

    clause: str
    """`max_error`, `max_cost` or `recall`."""
    limit: float
    """The share of mistakes that is allowed: of recall 0.98 it is 0.02."""
    promised: bool
    """Whether the test passed; else the threshold only looks right."""
    name: str = ""
    """The class of a recall."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What was fitted, and to what level each clause was tested."""

    decision: DecisionSpec
    fitted: tuple[Fitted, ...]
    level: float
    """Chance of a broken promise that each clause was given."""


def fit_thresholds(contract: Contract, decision: DecisionSpec, images: Sighted, labels: LabelSet) -> Thresholds:
    """Thresholds for `contract` on top of `decision`, which calibrates (and has the costs, where there are any)."""
    floors = {labels.index(name): floor for name, floor in contract.recall.items() if floor > 0.0}
    max_cost = contract.max_cost
    clauses = len(floors) + (contract.max_error is not None) + (max_cost is not None and decision.costs is not None)
    level = (1.0 - contract.confidence) / max(clauses, 1)
    fitted: list[Fitted] = []
    decision = decision.model_copy(update={"threshold": 0.0, "class_thresholds": None, "doubts": None})
    if floors:
        decision = _with_doubts(decision, images, floors, level, fitted, labels.names)
    weights = class_weights(contract, images.labels, labels)
    if max_cost is not None and decision.costs is not None:
        decision = _with_cost_limit(decision, images, weights, max_cost, level, fitted)
    if contract.max_error is not None:
        decision = _with_threshold(decision, images, weights, contract.max_error, level, fitted)
    return Thresholds(decision=decision, fitted=tuple(fitted), level=level)


def class_weights(contract: Contract, labels: Ints, known: LabelSet) -> Floats | None:
    """(N,) how much an image counts by the contract's prevalence; None without one. Raises DataError as `class_mix`."""
    if not contract.prevalence:
        return None
    return image_weights(class_mix(contract.prevalence, known, np.bincount(labels, minlength=len(known))), labels)


def costs_of(contract: Contract, labels: LabelSet) -> tuple[tuple[float, ...], ...] | None:
    """`costs[true][answered]` (C, C) of the contract, 0 where it says nothing; None without costs."""
    if not contract.costs:
        return None
    return tuple(tuple(row) for row in cost_matrix(contract.costs, labels).tolist())


def _with_doubts(
    decision: DecisionSpec,
    images: Sighted,
    floors: dict[int, float],
    level: float,
    fitted: list[Fitted],
    names: Sequence[str],
) -> DecisionSpec:
    index = answers(decision, images.chances)
    doubts = np.ones(images.chances.shape[1])
    for target, floor in sorted(floors.items()):
        own = images.labels == target
        chance, missed = images.chances[own, target].astype(np.float64), index[own] != target
        order = np.argsort(chance, kind="stable")
        evidence = _evidence(missed[order].astype(np.float64), None, _part(images.groups, own, order))
        doubts[target], promised = _doubt(chance[order], missed[order], evidence, 1.0 - floor, level)
        fitted.append(Fitted(clause="recall", limit=1.0 - floor, promised=promised, name=names[target]))
    return decision.model_copy(update={"doubts": tuple(doubts.tolist()) if (doubts < 1.0).any() else None})


def _doubt(chance: Floats, missed: Bools, evidence: Evidence, limit: float, level: float) -> tuple[float, bool]:
    """The doubt of a class whose images (n,) in rising order of its probability are missed or not.

    Those below the doubt stay missed. The tail rises with the misses, so the first that fails ends it.
    """
    if not len(chance):
        return 1.0, False
    hits, total = counts_of_prefixes(evidence, of_all=True)
    promised = _can_promise(evidence, limit, level)
    good = tail(hits, total, limit) <= level if promised else np.cumsum(missed) <= limit * len(missed)
    failing = np.flatnonzero(missed & ~good)
    return (1.0 if not len(failing) else _BELOW * float(chance[failing[0]])), promised


def _with_cost_limit(
    decision: DecisionSpec,
    images: Sighted,
    weights: Floats | None,
    max_cost: float,
    level: float,
    fitted: list[Fitted],
) -> DecisionSpec:
    """A limit on the expected cost, so that the mean cost over all images, 0 for those sent away, is at most
    `max_cost`. Costs are taken as shares of the largest one; a mean of such has at most the spread of a share."""
    matrix = np.asarray(decision.costs)
    largest = float(matrix.max()) or 1.0
    index = answers(decision, images.chances)
    away = sent_away(decision, images.chances, index)
    expected = expected_costs(tuple(map(tuple, matrix)), images.chances)[np.arange(len(index)), index]
    real = np.where(away, 0.0, matrix[images.labels, index] / largest)
    order = np.argsort(expected, kind="stable")
    evidence = _evidence(real[order], _part(weights, order), _part(images.groups, order))
    hits, total = counts_of_prefixes(evidence, of_all=True)
    limit = max_cost / largest
    numbers, scores = candidates(-expected[order])
    promised = _can_promise(evidence, limit, level)
    good = tail(hits, total, limit) <= level if promised else hits <= limit * total
    passing = np.flatnonzero(np.cumprod(good[numbers - 1])) if len(numbers) else np.zeros(0, np.int64)
    fitted.append(Fitted(clause="max_cost", limit=max_cost, promised=promised))
    if not len(passing):
        return decision.model_copy(update={"cost_limit": 0.0})
    reached = float(-scores[passing[-1]])
    return decision if np.isinf(reached) else decision.model_copy(update={"cost_limit": max(reached, 0.0)})


def _with_threshold(
    decision: DecisionSpec,
    images: Sighted,
    weights: Floats | None,
    max_error: float,
    level: float,
    fitted: list[Fitted],
) -> DecisionSpec:
    index = answers(decision, images.chances)
    kept = ~sent_away(decision, images.chances, index)
    wrong = (index != images.labels).astype(np.float64)
    score = images.chances[np.arange(len(index)), index].astype(np.float64)
    order = np.argsort(-score[kept], kind="stable")
    groups, shared = _part(images.groups, kept, order), 0.0
    if images.groups is not None:  # the mistakes of all images say most about how alike those of a group are
        shared = correlation(wrong, images.groups)
    evidence = Evidence(bad=wrong[kept][order], weights=_part(weights, kept, order), groups=groups, correlation=shared)
    hits, total = counts_of_prefixes(evidence)
    numbers, limits = candidates(score[kept][order])
    p_values, sizes = tail(hits[numbers - 1], total[numbers - 1], max_error), worth(evidence)[numbers - 1]
    chosen = furthest(p_values, sizes, level, max_error)
    fitted.append(Fitted(clause="max_error", limit=max_error, promised=chosen is not None))
    if chosen is None:
        return decision.model_copy(update={"threshold": _apparent(hits, total, numbers, limits, max_error)})
    return decision.model_copy(update={"threshold": _threshold(float(limits[chosen]))})


def _apparent(hits: Floats, total: Floats, numbers: Ints, limits: Floats, max_error: float) -> float:
    """The threshold that answers most among those whose answers look right; 1 where none does."""
    share = hits[numbers - 1] / np.maximum(total[numbers - 1], 1e-12)
    good = np.flatnonzero(share <= max_error)
    return _threshold(float(limits[good[-1]])) if len(good) else 1.0


def _threshold(limit: float) -> float:
    return float(np.clip(limit, 0.0, 1.0)) if np.isfinite(limit) else 0.0


def _evidence(bad: Floats, weights: Floats | None, groups: Ints | None) -> Evidence:
    shared = 0.0 if groups is None else correlation(bad, groups)
    return Evidence(bad=bad, weights=weights, groups=groups, correlation=shared)


def _can_promise(evidence: Evidence, limit: float, level: float) -> bool:
    """Whether so many images would promise `limit` if there were no mistake among them."""
    if not len(evidence.bad):
        return False
    size = worth(evidence, of_all=True)[-1:]
    return bool(tail(np.zeros(1), size, limit)[0] <= level)


def _part(values: _Values | None, *steps: Bools | Ints) -> _Values | None:
    if values is None:
        return None
    found: _Values = values
    for step in steps:
        found = found[step]
    return found
