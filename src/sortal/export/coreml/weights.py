"""The stored tensors of a Core ML package against those of the graph: layers in their order, biases and
other numbers by value.

    float16: half a step of float16, about 0.0005 of a weight
    8 bits: 0.6 of a step, which is the largest weight of an output channel / 127 (half from rounding, the rest from
    the scale, which is float16)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError
from sortal.export.coreml.convert import LAYERS
from sortal.export.coreml.reading import is_eight_bits, stored_weight, tensor_of
from sortal.export.torch_graph.reading import Graph

Tensor = NDArray[np.float64]

_NODES = {"Conv": (1,), "Gemm": (1,), "MatMul": (0, 1)}
"""Nodes that become `LAYERS`, and the inputs that may be stored."""
_KEPT_OTHERWISE = ("Cast", "Transpose", "Identity")
_SHAPING = ("OneHot", "Pad")
"""Their numbers become something else than a tensor."""
_LEVELS = 127
_STEPS = 0.6
_RELATIVE, _SMALLEST = 2.0**-11, 2.0**-24
"""Of float16: half a step relative to a number, and the smallest step."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Weights of a package under the names and in the shapes of the graph."""

    tensors: dict[str, Tensor]
    eight_bits: tuple[str, ...]
    others: int
    joined: tuple[str, ...]
    """Numbers of element-wise arithmetic that the converter joined with others, so that they cannot be compared."""
    largest: float
    """The largest difference of any, in units of what is allowed."""

    def summary(self) -> dict[str, Any]:
        """For the report."""
        return {
            "layers": len(self.tensors),
            "of_8_bits": len(self.eight_bits),
            "others": self.others,
            "not_compared": list(self.joined),
            "largest_difference_of_allowed": round(self.largest, 4),
            "allowed": {"float16": "half a step", "int8": f"{_STEPS} of a step of the channel"},
        }


def compare_weights(main: Any, graph: Graph, *, eight_bits: bool, where: str) -> Held:
    """The weights of an ML program's main function, found equal to the graph's within what they are stored in.

    Raises BundleError where layers are missing or in another order, or a weight is off by more, or 8 bits were not
    asked for (`eight_bits`).
    """
    stored = {**graph.weights, **graph.buffers}
    named = _in_layers(graph, stored)
    layers = [held for one in main.operations if one.op_type in LAYERS and (held := stored_weight(one)) is not None]
    if len(layers) != len(named):
        raise _off(f"it has {len(layers)} layers with weights, the graph {len(named)}", where)
    tensors, integers, largest = dict[str, Tensor](), list[str](), 0.0
    subtracted = _subtracted(graph)
    for name, variable in zip(named, layers, strict=True):
        integer = is_eight_bits(variable)
        if integer and not eight_bits:
            raise _off(f"{name} has 8 bits", where)
        wanted, held = stored[name].astype(np.float64), tensor_of(variable)
        try:
            tensors[name], gap = _fitted(name, wanted, held, where, integer=integer)
        except BundleError:
            if name not in subtracted or held is None:
                raise
            tensors[name], gap = _fitted(name, wanted, -held, where, integer=integer)
        largest = max(largest, gap)
        integers += [name] if integer else []
    shaping = {name for node in graph.nodes if node.kind in _SHAPING for name in node.inputs}
    others = {
        name: value
        for name, value in stored.items()
        if name not in tensors and name not in shaping and value.size > 1 and value.dtype.kind == "f"
    }
    joined = _not_found(main, others)
    biases = {node.inputs[2] for node in graph.nodes if node.kind in _NODES and len(node.inputs) > 2}
    if lost := sorted(biases & {*joined}):
        raise _off(f"{lost[0]} is not among its tensors", where)
    return Held(tensors=tensors, eight_bits=tuple(integers), others=len(others), joined=tuple(joined), largest=largest)


def _subtracted(graph: Graph) -> set[str]:
    """Inputs of products that are subtracted from something; the converter may turn their signs and add them."""
    away = {node.inputs[1] for node in graph.nodes if node.kind == "Sub"}
    return {name for node in graph.nodes if node.kind in _NODES and away & {*node.outputs} for name in node.inputs}


def _in_layers(graph: Graph, stored: Collection[str]) -> list[str]:
    """Names of the tensors that layers multiply with, in the order of the nodes; some are kept in another type."""
    known = {name: name for name in stored}
    found = []
    for node in graph.nodes:
        if node.kind in _KEPT_OTHERWISE and node.inputs[0] in known:
            known[node.outputs[0]] = known[node.inputs[0]]
        found += [known[node.inputs[place]] for place in _NODES.get(node.kind, ()) if node.inputs[place] in known]
    return found


def _fitted(name: str, wanted: Tensor, held: Tensor | None, where: str, *, integer: bool) -> tuple[Tensor, float]:
    """(the held tensor in the graph's shape, its largest difference in units of the allowed one)."""
    best: tuple[Tensor, float] | None = None
    for turned in _shapes(held, wanted.shape):
        gap = float((np.abs(turned - wanted) / _allowed(wanted, integer=integer)).max(initial=0.0))
        if best is None or gap < best[1]:
            best = turned, gap
    if best is None:
        shape = None if held is None else held.shape
        raise _off(f"{name} has the shape {shape} in place of {wanted.shape}", where)
    if not best[1] <= 1:
        raise _off(f"{name} is off by {best[1]:.3g} times what is allowed", where)
    return best


def _shapes(held: Tensor | None, shape: tuple[int, ...]) -> list[Tensor]:
    """The tensor in the shape of another: as it lies, and turned where it is a matrix."""
    if held is None or held.size != int(np.prod(shape)):
        return []
    found = [held.reshape(shape)]
    if held.ndim == 2 and held.T.shape == shape:
        found.append(held.T)
    return found


def _allowed(wanted: Tensor, *, integer: bool) -> Tensor:
    fine = _RELATIVE * np.abs(wanted) + _SMALLEST
    if not integer:
        return np.asarray(fine)
    steps = [
        np.abs(wanted).max(axis=tuple(axis for axis in range(wanted.ndim) if axis != kept), keepdims=True)
        for kept in range(min(wanted.ndim, 2) if wanted.ndim == 2 else 1)
    ]
    largest = steps[0] if len(steps) == 1 else np.minimum(*np.broadcast_arrays(*steps))
    return np.asarray(_STEPS * largest / _LEVELS + fine)


def _not_found(main: Any, wanted: Mapping[str, NDArray[Any]]) -> list[str]:
    """Of biases, references and other numbers, those whose values the program does not hold."""
    held = [
        value.reshape(-1)
        for operation in main.operations
        if operation.op_type == "const"
        if (value := tensor_of(operation.outputs[0])) is not None
    ]
    return [name for name, value in wanted.items() if not _is_held(value.astype(np.float64), held)]


def _is_held(value: Tensor, held: Sequence[Tensor]) -> bool:
    if not value.any():  # adding zeros may be left out
        return True
    ways = [value, -value] + ([value.T] if value.ndim == 2 else [])  # a subtraction may become an addition
    return any(
        one.size == value.size
        and bool((np.abs(one - way.reshape(-1)) <= _allowed(way.reshape(-1), integer=False)).all())
        for way in ways
        for one in held
    )


def _off(what: str, where: str) -> BundleError:
    return BundleError(
        f"the weights of the Core ML package are not the graph's: {what}",
        where=where,
        hint="do not deploy it; export it again from its bundle",
    )
