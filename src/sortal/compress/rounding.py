"""A Q/DQ graph made trainable and put back: fake quantization exactly where its pairs are, so that what is trained and
what is deployed agree by construction.

    trainable    activations: QuantizeLinear, DequantizeLinear -> FakeQuantize with the same scale
                 weights:     stored integers -> levels in float32, rounded on their way into the layer
                 biases:      stored integers -> units in float32
                 roots:       Sqrt with a gradient that has an end
    put_back     levels and units -> the stored integers of the same graph

Scales stay what calibration made them. The operators are `export.torch_graph.rounding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Floats = NDArray[np.float32]

DOMAIN = "sortal"
_BIAS_STEPS = 64.0
"""Steps of a bias in one unit: what it changes is then about what one level of a weight changes."""
_LARGEST = 2**31 - 1
_ENDS = {"uint8": (0, 255), "int8": (-128, 127)}


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """A graph for `export.torch_graph.as_module`, and what of it is to be learned."""

    model: onnx.ModelProto
    learned: Mapping[str, str]
    """Name of a stored tensor to learn -> name of the stored integers that it becomes."""


def trainable(model: onnx.ModelProto, floats: Mapping[str, Floats], *, narrow: bool) -> Trainable:
    """The graph of `graph.quantized(..., brief=False)` with fake quantization in place of its pairs.

    `floats` are the tensors that were rounded, by name: training starts from them.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    pairs = {node.output[0]: node for node in copy.graph.node if node.op_type == "QuantizeLinear"}
    nodes, learned, added = list[onnx.NodeProto](), dict[str, str](), dict[str, Floats]()
    for node in copy.graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if node.op_type == "Sqrt":
            node.domain = DOMAIN
        if node.op_type != "DequantizeLinear":
            nodes.append(node)
        elif node.input[0] in stored:
            name = f"{node.input[0]}.trained"
            made, value = _of_stored(node, name, stored, floats, narrow=narrow)
            nodes.append(made)
            learned[name], added[name] = node.input[0], value
        else:
            nodes.append(_of_activation(node, pairs[node.input[0]], stored))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {output.name for output in copy.graph.output}
    kept = [tensor for tensor in copy.graph.initializer if tensor.name in used]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    copy.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in added.items())
    return Trainable(model=copy, learned=learned)


def put_back(
    model: onnx.ModelProto, learned: Mapping[str, str], values: Mapping[str, Floats], *, narrow: bool
) -> onnx.ModelProto:
    """A copy of the Q/DQ graph that `trainable` began with, with what was learned as its integers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    for name, target in learned.items():
        before = numpy_helper.to_array(stored[target])
        steps = values[name].astype(np.float64) * (_BIAS_STEPS if before.dtype == np.int32 else 1.0)
        if before.dtype == np.int32:
            whole = np.clip(np.rint(steps), -_LARGEST, _LARGEST).astype(np.int32)
        else:
            low, high = _ends_of(narrow=narrow)
            whole = np.clip(np.rint(steps), low, high).astype(before.dtype)
        stored[target].CopyFrom(numpy_helper.from_array(whole, target))
    return copy


def _of_stored(
    node: onnx.NodeProto,
    name: str,
    stored: Mapping[str, NDArray[np.generic]],
    floats: Mapping[str, Floats],
    *,
    narrow: bool,
) -> tuple[onnx.NodeProto, Floats]:
    """The node that gives a weight or bias from what is learned, and where learning starts."""
    whole = stored[node.input[0]]
    scale = _spread(np.asarray(stored[node.input[1]], np.float32), whole.ndim, _axis(node))
    plain = floats.get(node.input[0].removesuffix("_quantized"))
    exact = whole.astype(np.float32) * scale if plain is None or plain.shape != whole.shape else plain
    if whole.dtype == np.int32:
        unit = scale * np.float32(_BIAS_STEPS)
        made = helper.make_node("Scaled", [name], list(node.output), domain=DOMAIN, scale=_array(unit))
        return made, _in_steps(exact, unit)
    low, high = _ends_of(narrow=narrow)
    ends: dict[str, Any] = {"low": low, "high": high}
    made = helper.make_node("Rounded", [name], list(node.output), domain=DOMAIN, scale=_array(scale), **ends)
    return made, _in_steps(exact, scale)


def _of_activation(
    node: onnx.NodeProto, pair: onnx.NodeProto, stored: Mapping[str, NDArray[np.generic]]
) -> onnx.NodeProto:
    zero = stored[pair.input[2]]
    low, high = _ENDS[str(zero.dtype)]
    scale = _array(np.asarray(stored[pair.input[1]], np.float32))
    facts: dict[str, Any] = {"scale": scale, "zero": int(zero.item()), "low": low, "high": high}
    return helper.make_node("FakeQuantize", [pair.input[0]], list(node.output), domain=DOMAIN, **facts)


def _in_steps(exact: Floats, step: Floats) -> Floats:
    """Values in units of their steps; 0 in channels that are 0 everywhere, whose step may be 0 too."""
    steps = np.broadcast_to(step, exact.shape)
    found: Floats = np.divide(exact, steps, out=np.zeros_like(exact), where=steps > 0)
    return found


def _ends_of(*, narrow: bool) -> tuple[int, int]:
    """Levels of weights, which are symmetric."""
    return (-64, 64) if narrow else (-127, 127)


def _axis(node: onnx.NodeProto) -> int:
    return next((item.i for item in node.attribute if item.name == "axis"), 1)


def _spread(scale: Floats, dimensions: int, axis: int) -> Floats:
    """A scale for each channel with a place for every dimension; one scale as it is."""
    if scale.size == 1:
        return scale.reshape(())
    shape = [1] * dimensions
    shape[axis] = scale.size
    return scale.reshape(shape)


def _array(value: Floats) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(value))
