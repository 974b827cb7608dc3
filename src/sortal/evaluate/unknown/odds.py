"""Log-odds against the likeliest class: strange where no class stands out. It orders images as one minus the highest
probability does (Hendrycks and Gimpel 2017), and goes on where that rounds to 0. A part of `unknown.rank`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.unknown import energy
from sortal.evaluate.unknown.training import Floats, Graph, Parameters, Training

_LEAST = 1e-30


def fit(training: Training) -> Parameters:
    """`factor` (1,) and `bias` (C,) of the calibration, as of the energy."""
    return energy.fit(training)


def score(parameters: Parameters, _embeddings: NDArray[np.float32], logits: NDArray[np.float32]) -> Floats:
    """(N,) log of (1 - p) / p for the highest probability p, at least -69."""
    scaled = logits.astype(np.float64) * float(parameters["factor"][0]) + parameters["bias"].astype(np.float64)
    return log_odds(scaled)


def log_odds(logits: NDArray[np.float64]) -> Floats:
    """(N,) from calibrated logits (N, C)."""
    ordered = np.sort(logits, axis=1)
    others = np.exp(ordered[:, :-1] - ordered[:, -1:]).sum(axis=1)
    return np.asarray(np.log(np.maximum(others, _LEAST)))


def emit(graph: Graph, parameters: Parameters, _embedding: str, logits: str) -> str:
    """As `score`: the highest logit is taken out of the sum by hand, for 1 - p is nothing but rounding near p = 1."""
    factor, bias = graph.constant(parameters["factor"]), graph.constant(parameters["bias"])
    scaled = graph.node("Add", graph.node("Mul", logits, factor), bias)
    highest = graph.node("ReduceMax", scaled, graph.axes(1), keepdims=1)
    shifted = graph.node("Sub", scaled, highest)
    best = graph.node("OneHot", graph.node("ArgMax", scaled, axis=1, keepdims=0), *_one_hot(graph, parameters))
    others = graph.node("Mul", graph.node("Exp", shifted), best)
    summed = graph.node("ReduceSum", others, graph.axes(1), keepdims=0)
    return graph.node("Log", graph.node("Max", summed, graph.constant(np.array(_LEAST, np.float32))))


def _one_hot(graph: Graph, parameters: Parameters) -> tuple[str, str]:
    """Depth, and the values elsewhere and at the place: 1 and 0."""
    return graph.axes(len(parameters["bias"])), graph.constant(np.array([1.0, 0.0], np.float32))
