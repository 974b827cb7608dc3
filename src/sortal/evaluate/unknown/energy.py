"""Free energy: -log of the sum of exponentials of the calibrated logits (Liu et al. 2020, "Energy-based
out-of-distribution detection"). Strange images excite no class; unlike the highest probability, it sees how much."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.unknown.training import Floats, Graph, Parameters, Training


def fit(training: Training) -> Parameters:
    """`factor` (1,) and `bias` (C,) of the calibration; nothing is learned."""
    classes = training.known_logits.shape[1]
    bias = np.zeros(classes) if training.bias is None else np.asarray(training.bias)
    return {"factor": np.array([1.0 / training.temperature], np.float32), "bias": bias.astype(np.float32)}


def score(parameters: Parameters, _embeddings: NDArray[np.float32], logits: NDArray[np.float32]) -> Floats:
    """(N,) in units of calibrated logits."""
    scaled = logits.astype(np.float64) * float(parameters["factor"][0]) + parameters["bias"].astype(np.float64)
    highest = scaled.max(axis=1)
    return np.asarray(-(highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))))


def emit(graph: Graph, parameters: Parameters, _embedding: str, logits: str) -> str:
    """As `score`; the highest logit is taken off first, so that no exponential overflows."""
    factor, bias = graph.constant(parameters["factor"]), graph.constant(parameters["bias"])
    scaled = graph.node("Add", graph.node("Mul", logits, factor), bias)
    highest = graph.node("ReduceMax", scaled, graph.axes(1), keepdims=1)
    summed = graph.node("ReduceSum", graph.node("Exp", graph.node("Sub", scaled, highest)), graph.axes(1), keepdims=1)
    energy = graph.node("Neg", graph.node("Add", highest, graph.node("Log", summed)))
    return graph.node("ReduceMax", energy, graph.axes(1), keepdims=0)
