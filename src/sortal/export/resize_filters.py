"""Pillow's resampling filters as operations of a graph: the weight of a sample by its distance, before normalization.

Distances are not negative and in samples of the coarser side. Definitions: Pillow's Resample.c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from sortal.export.nodes import Nodes

SUPPORT = {"bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""How far a filter reaches, in samples of the coarser side; of filters that jump (nearest, box) rounding would decide
which samples they take."""

_SMALLEST = 1e-6


def real(nodes: Nodes, value: float) -> str:
    """A float32 scalar."""
    return nodes.constant(np.asarray(value, np.float32))


def _bilinear(nodes: Nodes, distance: str) -> str:
    return nodes.node("Max", nodes.node("Sub", real(nodes, 1.0), distance), real(nodes, 0.0))


def _bicubic(nodes: Nodes, distance: str) -> str:
    """Keys' cubic with a = -1/2."""
    inner = _polynomial(nodes, distance, (1.5, -2.5, 0.0, 1.0))
    outer = _polynomial(nodes, distance, (-0.5, 2.5, -4.0, 2.0))
    outer = nodes.node("Where", nodes.node("Less", distance, real(nodes, 2.0)), outer, real(nodes, 0.0))
    return nodes.node("Where", nodes.node("Less", distance, real(nodes, 1.0)), inner, outer)


def _hamming(nodes: Nodes, distance: str) -> str:
    turned = nodes.node("Cos", nodes.node("Mul", distance, real(nodes, math.pi)))
    bell = nodes.node("Add", nodes.node("Mul", turned, real(nodes, 0.46)), real(nodes, 0.54))
    return _within(nodes, distance, 1.0, nodes.node("Mul", _sinc(nodes, distance), bell))


def _lanczos(nodes: Nodes, distance: str) -> str:
    third = nodes.node("Mul", distance, real(nodes, 1 / 3))
    return _within(nodes, distance, 3.0, nodes.node("Mul", _sinc(nodes, distance), _sinc(nodes, third)))


FILTERS: Mapping[str, Callable[[Nodes, str], str]] = {
    "bilinear": _bilinear,
    "bicubic": _bicubic,
    "hamming": _hamming,
    "lanczos": _lanczos,
}


def _polynomial(nodes: Nodes, x: str, factors: tuple[float, ...]) -> str:
    """Horner's scheme, highest power first."""
    value = real(nodes, factors[0])
    for factor in factors[1:]:
        value = nodes.node("Add", nodes.node("Mul", value, x), real(nodes, factor))
    return value


def _sinc(nodes: Nodes, x: str) -> str:
    angle = nodes.node("Max", nodes.node("Mul", x, real(nodes, math.pi)), real(nodes, _SMALLEST))
    return nodes.node("Div", nodes.node("Sin", angle), angle)


def _within(nodes: Nodes, distance: str, support: float, value: str) -> str:
    return nodes.node("Where", nodes.node("Less", distance, real(nodes, support)), value, real(nodes, 0.0))
