"""DecisionSpec: how logits become an answer. Stored as `decision.json`, applied by every engine and the server.

The first form holds the identity (temperature 1, answer everything). Calibration, abstention and the unknown score
fill the other fields later without a change of format.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class UnknownSpec(BaseModel):
    """Which out-of-distribution score is used and from where on an image counts as unknown.

    `parameters` names a file in the bundle's `reference/` folder where the score needs one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["energy", "mahalanobis", "knn", "rank"]
    threshold: float
    parameters: str | None = None


class DecisionSpec(BaseModel):
    """Answer = argmax of softmax(logits / temperature + bias), given unless its probability is below the threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=1, le=1)] = 1
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    bias: tuple[float, ...] | None = None
    threshold: Share = 0.0
    class_thresholds: tuple[Share, ...] | None = None
    costs: tuple[tuple[float, ...], ...] | None = None
    unknown: UnknownSpec | None = None


def probabilities(decision: DecisionSpec, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Calibrated probabilities (N, classes) from logits (N, classes), rows summing to 1."""
    scaled = logits.astype(np.float64) / decision.temperature
    if decision.bias is not None:
        scaled = scaled + np.asarray(decision.bias)
    scaled -= scaled.max(axis=1, keepdims=True)
    exponential = np.exp(scaled)
    chances: NDArray[np.float32] = (exponential / exponential.sum(axis=1, keepdims=True)).astype(np.float32)
    return chances


def abstains(decision: DecisionSpec, probability: NDArray[np.float32], answer: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of N answers (class index, with its probability) fall below their threshold and go to a person."""
    limit = np.full(probability.shape, decision.threshold, dtype=np.float64)
    if decision.class_thresholds is not None:
        limit = np.maximum(limit, np.asarray(decision.class_thresholds)[answer])
    return probability.astype(np.float64) < limit
