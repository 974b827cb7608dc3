"""A space as named arrays, and as the first operations of a graph; what the distances have in common."""

from __future__ import annotations

from sortal.evaluate.unknown.space import Space
from sortal.evaluate.unknown.training import Graph, Parameters


def parameters_of(space: Space) -> Parameters:
    """The arrays of a space."""
    return {"mean": space.mean, "axes": space.axes, "scale": space.scale}


def space_of(parameters: Parameters) -> Space:
    """The space again."""
    return Space(mean=parameters["mean"], axes=parameters["axes"], scale=parameters["scale"])


def emit_coordinates(graph: Graph, parameters: Parameters, embedding: str) -> str:
    """(N, R) from the embedding, as `Space.coordinates`."""
    centered = graph.node("Sub", embedding, graph.constant(parameters["mean"]))
    turned = graph.node("MatMul", centered, graph.constant(parameters["axes"]))
    return graph.node("Mul", turned, graph.constant(parameters["scale"]))
