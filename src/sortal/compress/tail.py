"""The unknown score of a graph, taken off before int8 and put back afterwards: what it computes stays, from the
embedding and logits that int8 gives.

Its half-precision matrices are stored as integers of 7 bits with a scale for each column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sortal.runtime.engines.onnxruntime import UNKNOWN_SCORE
from sortal.runtime.onnx_file import read_model

_PREFIX = "unknown."
_WORTH = 4_096
"""Numbers from which on a matrix is stored as int8."""
_LARGEST = 63
"""An engine may multiply these levels with those of the embedding, and without VNNI sums of 8 bits saturate."""


@dataclass(frozen=True, kw_only=True)
class Tail:
    """Nodes, stored tensors and the output of the unknown score; all empty where a graph has none."""

    nodes: tuple[onnx.NodeProto, ...]
    stored: tuple[onnx.TensorProto, ...]
    outputs: tuple[onnx.ValueInfoProto, ...]


def unknown_tail(path: Path) -> Tail:
    """What computes the unknown score in an exported file, with its matrices in int8."""
    graph = onnx.load_model_from_string(read_model(path)).graph
    nodes = {node.output[0]: node for node in graph.node if node.name.startswith(_PREFIX)}
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.name.startswith(_PREFIX)}
    for name, node in list(nodes.items()):
        tensor = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if tensor is not None and len(tensor.dims) == 2 and np.prod(tensor.dims) >= _WORTH:
            parts = _in_int8(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            del stored[tensor.name]
            stored |= {part.name: part for part in parts}
            inputs = [part.name for part in parts]
            nodes[name] = helper.make_node("DequantizeLinear", inputs, [name], name=node.name, axis=1)
    return Tail(
        nodes=tuple(nodes.values()),
        stored=tuple(stored.values()),
        outputs=tuple(output for output in graph.output if output.name == UNKNOWN_SCORE),
    )


def add_tail(model: onnx.ModelProto, tail: Tail) -> None:
    """Put the unknown score into a graph that gives out `embedding` and `logits`, in place."""
    model.graph.node.extend(tail.nodes)
    model.graph.initializer.extend(tail.stored)
    model.graph.output.extend(tail.outputs)


def _in_int8(matrix: NDArray[np.float32], name: str) -> tuple[onnx.TensorProto, onnx.TensorProto, onnx.TensorProto]:
    """Levels (R, C), scales (C,) and zeros (C,) of a matrix (R, C)."""
    scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / _LARGEST
    levels = np.clip(np.rint(matrix / scales), -_LARGEST, _LARGEST).astype(np.int8)
    return (
        numpy_helper.from_array(levels, f"{name}.levels"),
        numpy_helper.from_array(scales.astype(np.float32), f"{name}.scales"),
        numpy_helper.from_array(np.zeros(len(scales), np.int8), f"{name}.zeros"),
    )
