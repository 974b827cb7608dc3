"""A graph in half precision: weights and arithmetic float16, inputs and outputs float32 as before.

The unknown score stays float32, because distances and ranks of embeddings leave float16's range or resolution; and the
output `probabilities`, where there is one, with it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sortal.core.errors import BundleError, InternalError

if TYPE_CHECKING:
    import onnx

KEPT = ("unknown.", "fused.")
"""Beginnings of the names of nodes and tensors that stay float32."""


def to_half(model: onnx.ModelProto, *, where: str = "model") -> onnx.ModelProto:
    """The model in float16. Raises BundleError where a weight is beyond float16 (65504)."""
    import numpy as np
    from onnx import TensorProto, numpy_helper
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name.startswith(KEPT):
            continue
        largest = float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
        if not largest <= np.finfo(np.float16).max:
            raise BundleError(
                "a weight is beyond what float16 can hold", where=where, received=f"{tensor.name}: {largest:.4g}"
            )
    kept = [_named(node, number) for number, node in enumerate(model.graph.node) if _is_kept(node)]
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    half: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    _straighten(half.graph, frozenset(kept))
    _sort(half.graph)
    return half


def _is_kept(node: onnx.NodeProto) -> bool:
    return any(name.startswith(KEPT) for name in (node.name, *node.output))


def _straighten(graph: onnx.GraphProto, kept: frozenset[str]) -> None:
    """Hand numbers of nodes that stay float32 on as they are: the converter rounds each of them to float16 and back,
    which leaves nothing of a distance beyond 65504 and little of a small difference of two large ones."""
    from onnx import TensorProto

    made_by = {output: node for node in graph.node for output in node.output}
    straight = {}
    for node in graph.node:
        rounded = made_by.get(node.input[0]) if _casts_to(node, TensorProto.FLOAT) else None
        source = made_by.get(rounded.input[0]) if rounded and _casts_to(rounded, TensorProto.FLOAT16) else None
        if rounded and source and source.name in kept:
            straight[node.output[0]] = rounded.input[0]
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.output[0] in outputs & straight.keys():
            node.input[0] = straight[node.output[0]]
        else:
            node.input[:] = [straight.get(name, name) for name in node.input]
    for kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
        used = outputs | {name for node in graph.node for name in node.input}
        for node in [one for one in graph.node if _casts_to(one, kind) and one.output[0] not in used]:
            graph.node.remove(node)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(item.name == "to" and item.i == kind for item in node.attribute)


def _sort(graph: onnx.GraphProto) -> None:
    """Every node behind those whose outputs it takes, as the standard asks; the converter appends its casts."""
    made = {*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer), ""}
    waiting = list(graph.node)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        ready = []
        for node in waiting:
            if all(name in made for name in node.input):
                made.update(node.output)
                ready.append(node)
        if not ready:
            raise InternalError("the graph in half precision has a cycle", where=waiting[0].name)
        taken = {id(node) for node in ready}
        ordered, waiting = ordered + ready, [node for node in waiting if id(node) not in taken]
    del graph.node[:]
    graph.node.extend(ordered)


def _named(node: onnx.NodeProto, number: int) -> str:
    node.name = node.name or f"kept_{number}"
    return node.name
