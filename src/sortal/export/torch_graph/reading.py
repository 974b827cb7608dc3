"""Read an ONNX graph into plain values: nodes with their attributes, stored tensors, the names that matter.

Which stored tensors are weights (parameters), which belong to the data of the graph (buffers), and which are numbers
that shape it, is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sortal.core.errors import BundleError

OLDEST_OPSET = 18
"""Reductions take their axes as an input since then; older graphs are converted."""

_DOMAINS = ("", "ai.onnx")
_SCALES = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "Clip",
    "Where",
    "OneHot",
    "Pad",
    "Equal",
    "Greater",
    "Less",
)
"""Operators for which a single stored number is a constant and no weight."""
_STATISTICS = {"BatchNormalization": (3, 4)}
"""Inputs that are measured, not learned."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation. An input or output that is left out has the name ''."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What a module needs to run a graph. Tensors are by name; `numbers` shape the graph, `weights` can be learned."""

    input: str
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, NDArray[Any]]
    buffers: Mapping[str, NDArray[Any]]
    numbers: Mapping[str, NDArray[Any]]
    where: str


def read_graph(model: onnx.ModelProto, *, where: str) -> Graph:
    """Raises BundleError where the graph cannot be brought to operation set 18 or has not exactly one input."""
    model = _recent(model, where)
    graph = model.graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in stored]
    if len(inputs) != 1:
        raise BundleError("an image classifier has one input", where=where, received=", ".join(inputs))
    nodes, constants = [], dict[str, NDArray[Any]]()
    for position, proto in enumerate(graph.node):
        if proto.op_type == "Constant":
            constants[proto.output[0]] = _constant(proto, where)
        else:
            nodes.append(_node(proto, position))
    outputs = tuple(output.name for output in graph.output)
    weights, buffers, numbers = _sorted(stored, constants, nodes)
    return Graph(
        input=inputs[0],
        outputs=outputs,
        nodes=tuple(nodes),
        weights=weights,
        buffers=buffers,
        numbers=numbers,
        where=where,
    )


def _recent(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    opset = max((item.version for item in model.opset_import if item.domain in _DOMAINS), default=0)
    if opset >= OLDEST_OPSET:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except (RuntimeError, ValueError) as error:  # the converter is C++ behind a thin wrapper
        reason = str(error).strip().splitlines()[-1][:300]
        raise BundleError(
            f"the graph's operation set cannot be brought to {OLDEST_OPSET}: {reason}",
            where=where,
            received=str(opset),
            hint=f"export the model again with opset_version={OLDEST_OPSET} or later",
        ) from error


def _node(proto: onnx.NodeProto, position: int) -> Node:
    kind = proto.op_type if proto.domain in _DOMAINS else f"{proto.domain}.{proto.op_type}"
    return Node(
        kind=kind,
        name=proto.name or f"{proto.op_type.lower()}_{position}",
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={item.name: _attribute(item) for item in proto.attribute},
    )


def _attribute(item: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode()
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _constant(proto: onnx.NodeProto, where: str) -> NDArray[Any]:
    for item in proto.attribute:
        if item.name == "value":
            return numpy_helper.to_array(item.t)
        if item.name in ("value_int", "value_ints"):
            return np.array(helper.get_attribute_value(item), np.int64)
        if item.name in ("value_float", "value_floats"):
            return np.array(helper.get_attribute_value(item), np.float32)
    raise BundleError("a constant holds neither numbers nor a tensor", where=where, received=proto.name)


def _sorted(
    stored: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]], nodes: Sequence[Node]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Weights, buffers and numbers. Numbers are lists of integers and single constants of arithmetic."""
    users: dict[str, set[str]] = {}
    measured = set[str]()
    for node in nodes:
        for name in node.inputs:
            users.setdefault(name, set()).add(node.kind)
        measured |= {node.inputs[place] for place in _STATISTICS.get(node.kind, ())}
    weights, buffers, numbers = {}, {}, {}
    for name, array in {**stored, **constants}.items():
        listed = array.dtype.kind in "iu" and array.ndim <= 1
        lone = array.ndim <= 1 and array.size == 1 and (array.dtype.kind == "b" or users.get(name, set()) <= {*_SCALES})
        if listed or lone:
            numbers[name] = array
        elif name in stored and array.dtype == np.float32 and array.ndim and name not in measured:
            weights[name] = array
        else:
            buffers[name] = array
    return weights, buffers, numbers
