"""The graph for those who would get preprocessing wrong: 8-bit pixels in, normalization and the decision fused, so that
nothing but decoding and resizing is left outside.

    image (N, height, width, channels) uint8 -> normalized -> the exported graph -> logits, probabilities, answer, ...

Logits stay what they were, so that a decision is applied to them as to those of any other artifact; what the graph
decides by itself is `export.fused_decision`. Sizes are those of the network, or any where resizing is fused too
(`export.fused_resize`); the batch stays free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sortal.core.errors import BundleError
from sortal.export.fused_decision import PROBABILITIES, add_decision
from sortal.export.fused_resize import RESIZED, add_resize
from sortal.export.graph import INPUT, set_metadata
from sortal.runtime.metadata import from_metadata
from sortal.runtime.network_input import ANY_SIZE, KEY, UINT8_NCHW, UINT8_NHWC

if TYPE_CHECKING:
    import onnx

    from sortal.core.preprocess import PreprocessSpec

Layout = Literal["NHWC", "NCHW", "NHWC any size"]
"""Order of the dimensions; with `any size` images are upright but not resized, those of one call all of one size."""

NORMALIZED = "fused.normalized"
"""The tensor behind normalization, which a parity check can look at."""

_PREFIX = "fused."
_KINDS: dict[Layout, str] = {"NHWC": UINT8_NHWC, "NCHW": UINT8_NCHW, "NHWC any size": ANY_SIZE}


def fuse(model: onnx.ModelProto, *, layout: Layout = "NHWC", batch: int | None = None, where: str = "model") -> None:
    """Give a stamped model an 8-bit input and the outputs of `fused_decision`, in place; with `batch`, that many images
    at a time.

    Raises BundleError where the preprocessing keeps 16 bits or its resizing cannot be done in a graph, or the model has
    these parts already.
    """
    info = from_metadata({item.key: item.value for item in model.metadata_props}, where=where)
    if info.preprocess.depth != 8:
        raise BundleError(
            "only 8-bit preprocessing can be fused with an 8-bit input",
            where=where,
            received=f"{info.preprocess.depth} bits",
            hint="export onnx, openvino or onnx-fp16, which take normalized float32",
        )
    if any(output.name == PROBABILITIES for output in model.graph.output):
        raise BundleError("the model is fused already", where=where)
    if batch is not None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    _fuse_input(model.graph, info.preprocess, layout, where)
    add_decision(model.graph, info.decision, info.labels, prefix=_PREFIX)
    set_metadata(model, {KEY: _KINDS[layout]})


def _fuse_input(graph: onnx.GraphProto, spec: PreprocessSpec, layout: Layout, where: str) -> None:
    """As `core.preprocess`: perhaps resized; then one multiplication and one addition in float32."""
    from onnx import TensorProto, helper

    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == INPUT:
                node.input[position] = NORMALIZED
    std = np.asarray(spec.std, np.float64)
    shape = (1, spec.channels, 1, 1)
    scale = _store(graph, "scale", (1.0 / (spec.maximum * std)).reshape(shape))
    offset = _store(graph, "offset", (-np.asarray(spec.mean, np.float64) / std).reshape(shape))
    nodes, floats = _planes(graph, spec, layout, where)
    nodes += [
        helper.make_node("Mul", [floats, scale], [f"{_PREFIX}scaled"]),
        helper.make_node("Add", [f"{_PREFIX}scaled", offset], [NORMALIZED]),
    ]
    _put_first(graph, nodes)
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    sizes = _sizes(spec, layout, batch.dim_param or batch.dim_value)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, sizes))


def _planes(
    graph: onnx.GraphProto, spec: PreprocessSpec, layout: Layout, where: str
) -> tuple[list[onnx.NodeProto], str]:
    """The nodes before normalization, and the float tensor (N, channels, height, width) that they end in."""
    from onnx import TensorProto, helper

    if layout == "NHWC any size":
        batch = graph.input[0].type.tensor_type.shape.dim[0].dim_value or -1
        return add_resize(graph, spec, INPUT, where=where, batch=batch), RESIZED
    turned = f"{_PREFIX}channels_first" if layout == "NHWC" else INPUT
    nodes = [helper.make_node("Transpose", [INPUT], [turned], perm=[0, 3, 1, 2])] if layout == "NHWC" else []
    floats = f"{_PREFIX}floats"
    return [*nodes, helper.make_node("Cast", [turned], [floats], to=TensorProto.FLOAT)], floats


def _sizes(spec: PreprocessSpec, layout: Layout, batch: str | int) -> list[str | int]:
    if layout == "NHWC any size":
        return [batch, "rows", "columns", spec.channels]
    return [batch, *spec.size, spec.channels] if layout == "NHWC" else [batch, spec.channels, *spec.size]


def _put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *following])


def _store(graph: onnx.GraphProto, name: str, value: Any) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), f"{_PREFIX}{name}"))
    return f"{_PREFIX}{name}"
