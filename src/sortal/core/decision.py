"""DecisionSpec: how logits become an answer. Stored as `decision.json`, applied by every engine and the server.

The plain form is the identity: temperature 1, the likeliest class, everything answered. What the fields hold is fitted
elsewhere (`evaluate.trust`, `evaluate.unknown`); applying it is here, in one place.

Shapes: N images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class UnknownSpec(BaseModel):
    """Which out-of-distribution score is used, and the score above which an image counts as unknown.

    The score itself is an output of the exported graph; `parameters` names a file in the bundle's `reference/` folder
    that holds what it is computed from, where it needs something.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["energy", "mahalanobis", "knn", "rank"]
    threshold: float
    parameters: str | None = None


class DecisionSpec(BaseModel):
    """Answer = the likeliest class of softmax(logits / temperature + bias), or the one of least expected cost.

    It is given unless its probability is below the threshold, another class is too likely to be passed over (`doubts`),
    its expected cost is above `cost_limit`, or the image is unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=1, le=1)] = 1
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    bias: tuple[float, ...] | None = None
    threshold: Share = 0.0
    class_thresholds: tuple[Share, ...] | None = None
    doubts: tuple[Share, ...] | None = None
    """(C,) an answer is not given where a class other than it has a higher probability than that class's doubt."""
    costs: tuple[tuple[float, ...], ...] | None = None
    """`costs[true][answered]`, (C, C)."""
    cost_limit: Annotated[float, Field(ge=0.0)] | None = None
    """What sending an image to a person costs: answers whose expected cost is higher are not given. Needs `costs`."""
    unknown: UnknownSpec | None = None

    @model_serializer(mode="wrap")
    def _as_first_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that came later are left out where they say nothing, so that older files are written unchanged."""
        fields: dict[str, Any] = handler(self)
        for name in ("doubts", "cost_limit"):
            if fields[name] is None:
                del fields[name]
        return fields


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a decision makes of N images."""

    probabilities: NDArray[np.float32]
    """(N, C) calibrated, rows summing to 1."""
    index: NDArray[np.int64]
    """(N,) the answered class."""
    unknown: NDArray[np.bool_]
    """(N,) none of the classes, by the unknown score; always abstained."""
    abstained: NDArray[np.bool_]
    """(N,) the answer is not given: the image belongs to a person."""


def decide(
    decision: DecisionSpec, logits: NDArray[np.float32], unknown_score: NDArray[np.float32] | None = None
) -> Decided:
    """Probabilities, answers and who gets them, from logits (N, C) and unknown scores (N,), higher is stranger.

    Without scores nothing is unknown. A score that is not a number counts as unknown.
    """
    return decide_from_probabilities(decision, probabilities(decision, logits), unknown_score)


def decide_from_probabilities(
    decision: DecisionSpec, chances: NDArray[np.float32], unknown_score: NDArray[np.float32] | None = None
) -> Decided:
    """As `decide`, from calibrated probabilities (N, C): those of one image, or averaged over the images of a unit."""
    index = answers(decision, chances)
    strange = np.zeros(len(chances), bool)
    if decision.unknown is not None and unknown_score is not None:
        strange = ~(unknown_score.astype(np.float64) <= decision.unknown.threshold)
    abstained = strange.copy()
    if decision.threshold > 0 or decision.class_thresholds is not None:
        abstained |= abstains(decision, _at(chances, index), index)
    if decision.doubts is not None or decision.cost_limit is not None:
        abstained |= sent_away(decision, chances, index)
    return Decided(probabilities=chances, index=index, unknown=strange, abstained=abstained)


def probabilities(decision: DecisionSpec, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Calibrated probabilities (N, C) from logits (N, C), rows summing to 1."""
    scaled = logits.astype(np.float64)
    if decision.temperature != 1.0:
        scaled /= decision.temperature
    if decision.bias is not None:
        scaled += np.asarray(decision.bias)
    scaled -= np.maximum.reduce(scaled, axis=1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= np.add.reduce(scaled, axis=1, keepdims=True)
    return scaled.astype(np.float32)


def answers(decision: DecisionSpec, chances: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) the likeliest class, or the one of least expected cost; ties go to the lower index."""
    if decision.costs is None:
        return np.asarray(chances.argmax(axis=1), np.int64)
    return np.asarray(expected_costs(decision.costs, chances).argmin(axis=1), np.int64)


def expected_costs(costs: tuple[tuple[float, ...], ...], chances: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, C) what each answer would cost on average, from `costs[true][answered]` and probabilities (N, C)."""
    return np.asarray(chances.astype(np.float64) @ np.asarray(costs, np.float64))


def abstains(decision: DecisionSpec, probability: NDArray[np.float32], answer: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of N answers (class index, with its probability) fall below their threshold and go to a person."""
    limit = np.full(probability.shape, decision.threshold, dtype=np.float64)
    if decision.class_thresholds is not None:
        limit = np.maximum(limit, np.asarray(decision.class_thresholds)[answer])
    return probability.astype(np.float64) < limit


def sent_away(decision: DecisionSpec, chances: NDArray[np.float32], answer: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of N answers go to a person whatever their own probability: another class is likelier than its doubt, or
    the expected cost is above the limit."""
    away = np.zeros(len(chances), bool)
    if decision.doubts is not None:
        others = chances.astype(np.float64) > np.asarray(decision.doubts)
        others[np.arange(len(chances)), answer] = False
        away = np.asarray(others.any(axis=1))
    if decision.costs is not None and decision.cost_limit is not None:
        away |= _at(expected_costs(decision.costs, chances), answer) > decision.cost_limit
    return away


def _at(values: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    chosen: NDArray[Any] = values[np.arange(len(values)), index]
    return chosen
