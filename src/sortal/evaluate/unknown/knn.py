"""Distance to the k-th nearest training image (Sun et al. 2022, "Out-of-distribution detection with deep nearest
neighbors"): cosines in the whitened space of `unknown.space`, one matrix product with a sample of the training images.

Shapes: N images, K kept training images, R axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.unknown.coordinates import emit_coordinates, parameters_of, space_of
from sortal.evaluate.unknown.sample import stratified
from sortal.evaluate.unknown.training import Floats, Graph, Parameters, Training

MAX_KEPT = 2_000
NEIGHBOR = 5
"""The neighbor that counts; a nearer one where classes have fewer images: a rare class is no stranger."""

_SHORTEST = 1e-6


def fit(training: Training) -> Parameters:
    """The space, `neighbors` (K, R) of unit length and `neighbor` (1,), the one that counts."""
    rows = stratified(training.labels, MAX_KEPT, seed=training.seed)
    kept = _unit(training.space.coordinates(training.embeddings[rows]))
    counts = np.bincount(training.labels[rows])
    typical = int(np.median(counts[counts > 0]))
    number = min(NEIGHBOR, max(1, typical // 2), len(rows))
    return {
        **parameters_of(training.space),
        "neighbors": kept.astype(np.float16),
        "neighbor": np.array([number], np.int64),
    }


def score(parameters: Parameters, embeddings: NDArray[np.float32], _logits: NDArray[np.float32]) -> Floats:
    """(N,) one minus the cosine to the k-th nearest kept image, 0 to 2."""
    own = _unit(space_of(parameters).coordinates(embeddings))
    cosines = own @ parameters["neighbors"].astype(np.float64).T
    number = int(parameters["neighbor"][0])
    return np.asarray(1.0 - np.partition(cosines, -number, axis=1)[:, -number])


def emit(graph: Graph, parameters: Parameters, embedding: str, _logits: str) -> str:
    """As `score`; TopK gives the k highest cosines, of which the least counts."""
    own = emit_coordinates(graph, parameters, embedding)
    squares = graph.node("ReduceSum", graph.node("Mul", own, own), graph.axes(1), keepdims=1)
    length = graph.node("Max", graph.node("Sqrt", squares), graph.constant(np.array([_SHORTEST], np.float32)))
    turned = np.ascontiguousarray(parameters["neighbors"].T)
    cosines = graph.node("MatMul", graph.node("Div", own, length), graph.constant(turned))
    nearest = graph.node("TopK", cosines, graph.axes(int(parameters["neighbor"][0])), axis=1)
    least = graph.node("ReduceMin", nearest, graph.axes(1), keepdims=0)
    return graph.node("Sub", graph.constant(np.array([1.0], np.float32)), least)


def _unit(coordinates: Floats) -> Floats:
    lengths = np.linalg.norm(coordinates, axis=1, keepdims=True)
    return np.asarray(coordinates / np.maximum(lengths, _SHORTEST))
