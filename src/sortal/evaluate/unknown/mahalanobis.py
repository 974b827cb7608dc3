"""Mahalanobis distance to the nearest class mean, one covariance shared by all classes (Lee et al. 2018, "A simple
unified framework for detecting out-of-distribution samples"), in the whitened space of `unknown.space`.

Shapes: N images, C classes, R axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.unknown.coordinates import emit_coordinates, parameters_of, space_of
from sortal.evaluate.unknown.training import Floats, Graph, Parameters, Training


def fit(training: Training) -> Parameters:
    """The space, `means` (classes that have images, R) and the squares of their lengths."""
    coordinates = training.space.coordinates(training.embeddings)
    present = np.unique(training.labels)
    means = np.stack([coordinates[training.labels == index].mean(axis=0) for index in present]).astype(np.float32)
    squares = np.square(means.astype(np.float64)).sum(axis=1).astype(np.float32)
    return {**parameters_of(training.space), "means": means, "squares": squares}


def score(parameters: Parameters, embeddings: NDArray[np.float32], _logits: NDArray[np.float32]) -> Floats:
    """(N,) squared distances; R is about what a known image has."""
    own = space_of(parameters).coordinates(embeddings)
    means = parameters["means"].astype(np.float64)
    apart = parameters["squares"].astype(np.float64) - 2.0 * own @ means.T
    return np.asarray(apart.min(axis=1) + np.square(own).sum(axis=1))


def emit(graph: Graph, parameters: Parameters, embedding: str, _logits: str) -> str:
    """As `score`: |u - m|^2 = |u|^2 - 2 u.m + |m|^2, one matrix product."""
    own = emit_coordinates(graph, parameters, embedding)
    doubled = graph.constant((2.0 * parameters["means"].T).astype(np.float32))
    apart = graph.node("Sub", graph.constant(parameters["squares"]), graph.node("MatMul", own, doubled))
    length = graph.node("ReduceSum", graph.node("Mul", own, own), graph.axes(1), keepdims=0)
    return graph.node("Add", length, graph.node("ReduceMin", apart, graph.axes(1), keepdims=0))
