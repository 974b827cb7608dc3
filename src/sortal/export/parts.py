"""Read the last layers of somebody else's classifier: which tensors are its scores, embedding and feature map.

Everything found here is a guess from the graph alone; `export.adapt` believes it once a trial run shows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto, numpy_helper

from sortal.core.errors import InputError

_THROUGH = ("Identity", "Dropout", "Flatten", "Squeeze", "Reshape", "Cast")
_SPATIAL = ({2, 3}, {-2, -1})
_SPATIAL_NHWC = ({1, 2}, {-3, -2})


@dataclass(frozen=True, kw_only=True)
class InputInfo:
    """The model's only input. `channels` and `size` (height, width) are None where the model leaves them free."""

    name: str
    layout: str
    batch: int | None
    channels: int | None
    size: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Which tensors of the prefixed graph become the outputs; None where the graph has no such thing."""

    scores: str
    """(N, C) or (N, C, 1, 1), what the model itself gives out."""
    before_softmax: str | None
    embedding: str | None
    feature_map: str | None
    feature_map_nhwc: bool

    @property
    def all(self) -> list[str]:
        """The names that exist, without repetition."""
        names = [self.scores, self.before_softmax, self.embedding, self.feature_map]
        return list(dict.fromkeys(name for name in names if name))


def read_input(model: onnx.ModelProto, *, where: str) -> InputInfo:
    """Raises InputError unless the model has exactly one input of rank 4 and float32 values."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in stored]
    if len(inputs) != 1:
        raise InputError("an image classifier has one input", where=where, received=", ".join(i.name for i in inputs))
    tensor = inputs[0].type.tensor_type
    shape = [item.dim_value if item.dim_value > 0 else None for item in tensor.shape.dim]
    if tensor.elem_type != TensorProto.FLOAT or len(shape) != 4:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise InputError("the input must be float32 of rank 4", where=where, received=f"{kind} of shape {shape}")
    nhwc = shape[1] not in (1, 3) and shape[3] in (1, 3)
    channels, height, width = (shape[3], shape[1], shape[2]) if nhwc else (shape[1], shape[2], shape[3])
    if channels not in (None, 1, 3):
        raise InputError("the input must have 1 or 3 channels", where=where, received=str(shape))
    size = (height, width) if height and width else None
    layout = "NHWC" if nhwc else "NCHW"
    return InputInfo(name=inputs[0].name, layout=layout, batch=shape[0], channels=channels, size=size)


def find_parts(model: onnx.ModelProto, classes: int, *, where: str) -> Parts:
    """Read the last layers of a prefixed model: its scores, what comes before a softmax, the classifier's input ..."""
    scores = _scores(model.graph, classes, where)
    made_by = {name: node for node in model.graph.node for name in node.output}
    last = _through(made_by, scores)
    softmax = made_by.get(last)
    is_softmax = softmax is not None and softmax.op_type == "Softmax"
    before = softmax.input[0] if softmax is not None and is_softmax else None
    linear = _last_linear(model.graph, made_by, scores, classes)
    pool = _last_pool(model.graph, made_by, scores)
    return Parts(
        scores=scores,
        before_softmax=before,
        embedding=linear.input[0] if linear else None,
        feature_map=pool.input[0] if pool else None,
        feature_map_nhwc=pool is not None and _axes(model.graph, pool) in _SPATIAL_NHWC,
    )


def _scores(graph: onnx.GraphProto, classes: int, where: str) -> str:
    """The output of as many values as there are names; the only one; else the one called logits."""
    if len(graph.output) == 1:
        return str(graph.output[0].name)
    fitting = [
        output.name
        for output in graph.output
        if classes in [dimension.dim_value for dimension in output.type.tensor_type.shape.dim][1:2]
    ]
    named = [name for name in fitting if "logit" in name.lower()]
    if len(named or fitting) != 1:
        names = ", ".join(output.name for output in graph.output)
        raise InputError(f"cannot tell which output holds the {classes} classes", where=where, received=names)
    return str((named or fitting)[0])


def _through(made_by: dict[str, onnx.NodeProto], name: str) -> str:
    """Backwards over nodes that change no values."""
    while name in made_by and made_by[name].op_type in _THROUGH:
        name = str(made_by[name].input[0])
    return name


def _last_linear(
    graph: onnx.GraphProto, made_by: dict[str, onnx.NodeProto], scores: str, classes: int
) -> onnx.NodeProto | None:
    """The last Gemm or MatMul on the way to the scores whose stored weight has one row or column a class."""
    products = [node for node in _leading(graph, made_by, scores) if node.op_type in ("Gemm", "MatMul")]
    for node in reversed(products):
        weight = stored_tensor(graph, node.input[1])
        if weight is not None and classes in weight.dims:
            return node
    return None


def _last_pool(graph: onnx.GraphProto, made_by: dict[str, onnx.NodeProto], scores: str) -> onnx.NodeProto | None:
    """The last pooling over the whole image that leads to the scores."""
    pools = [node for node in _leading(graph, made_by, scores) if _is_pool(graph, node)]
    return pools[-1] if pools else None


def _leading(graph: onnx.GraphProto, made_by: dict[str, onnx.NodeProto], name: str) -> list[onnx.NodeProto]:
    """The nodes that tensor `name` is computed from, in the order of the graph."""
    seen, waiting = set(), [name]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            waiting.extend(node.input)
    return [node for node in graph.node if node.output and node.output[0] in seen]


def _is_pool(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        return True
    return node.op_type == "ReduceMean" and _axes(graph, node) in (*_SPATIAL, *_SPATIAL_NHWC)


def _axes(graph: onnx.GraphProto, node: onnx.NodeProto) -> set[int]:
    for attribute in node.attribute:
        if attribute.name == "axes":
            return set(attribute.ints)
    tensor = stored_tensor(graph, node.input[1]) if len(node.input) > 1 else None
    return set() if tensor is None else {int(axis) for axis in numpy_helper.to_array(tensor).ravel()}


def stored_tensor(graph: onnx.GraphProto, name: str) -> onnx.TensorProto | None:
    """The tensor in an initializer or Constant node called `name`, itself and not a copy."""
    found = [tensor for tensor in graph.initializer if tensor.name == name]
    constants = [node for node in graph.node if node.op_type == "Constant" and name in node.output]
    found += [item.t for node in constants for item in node.attribute if item.name == "value"]
    return found[0] if found else None
