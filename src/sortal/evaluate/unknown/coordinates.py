"""A space as named arrays, and as the first operations of a graph; what the distances have in common."""

from __future__ import annotations

from sortal.evaluate.unknown.space import Space
from sortal.evaluate.unknown.training import Graph, Parameters


def parameters_of(space: Space) -> Parameters:
    """The arrays of a space."""
    return {"axes": space.axes, "scale": space.scale, "center": space.center}


def space_of(parameters: Parameters) -> Space:
    """The space again."""
    return Space(axes=parameters["axes"], scale=parameters["scale"], center=parameters["center"])


def emit_coordinates(graph: Graph, parameters: Parameters, embedding: str) -> str:
    """(N, R) from the embedding, as `Space.coordinates`."""
    turned = graph.node("MatMul", embedding, graph.constant(parameters["axes"]))
    stretched = graph.node("Mul", turned, graph.constant(parameters["scale"]))
    return graph.node("Sub", stretched, graph.constant(parameters["center"]))
