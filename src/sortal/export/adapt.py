"""Give a classifier from elsewhere the interface of an exported graph: `image -> logits, embedding, feature_map`.

Its own nodes stay as they are, under a prefix; a few nodes before and after translate. What the last layers are is
read from the graph (`export.parts`), what they give is seen from a trial run, and only the latter is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from sortal.core.errors import BundleError, InputError
from sortal.core.report import Finding
from sortal.export.parts import InputInfo, Parts, stored_tensor

PREFIX = "net/"
BATCH = "batch"
Tried = dict[str, NDArray[np.float32]]

_SHAPES: dict[str, list[str | int]] = {
    "logits": [BATCH, "classes"],
    "embedding": [BATCH, "features"],
    "feature_map": [BATCH, "depth", "rows", "columns"],
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the trial showed: from which tensors the outputs are made, and what a person should know about it."""

    source: str
    takes_log: bool
    embedding: str | None
    feature_map: str | None
    feature_map_nhwc: bool
    notes: tuple[Finding, ...] = ()


def prefixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose names cannot collide with ours, with stored tensors no longer listed as inputs."""
    copy = compose.add_prefix(model, PREFIX)
    stored = {tensor.name for tensor in copy.graph.initializer}
    for item in [item for item in copy.graph.input if item.name in stored]:
        copy.graph.input.remove(item)
    copy.ir_version = max(copy.ir_version, 4)
    del copy.graph.value_info[:]
    return copy


def free_batch(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """A copy with a free batch, if the graph allows: constant shapes that begin with the fixed size copy it instead."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in {node.input[1] for node in copy.graph.node if node.op_type == "Reshape"}:
        tensor = stored_tensor(copy.graph, name)
        values = None if tensor is None else numpy_helper.to_array(tensor).copy()
        if tensor is not None and values is not None and values.ndim == 1 and len(values) > 1 and values[0] == size:
            values[0] = 0  # ONNX: copy this dimension from the input
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    _set_batch(copy, None)
    return copy


def expose(model: onnx.ModelProto, names: list[str]) -> bytes:
    """The model with the tensors `names` as its only outputs, as bytes, for a trial run."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    data: bytes = copy.SerializeToString()
    return data


def choose(parts: Parts, tried: Tried, classes: int, *, where: str) -> Choice:
    """Decide from the trial's outputs. Raises InputError when the classes do not fit the names or values are odd."""
    if parts.scores not in tried:
        raise InputError("the output is not float32", where=where, received=parts.scores.removeprefix(PREFIX))
    scores = tried[parts.scores]
    flat = scores.reshape(len(scores), -1)
    if flat.shape[1] != classes:
        hint = "the file of names needs one line for each output, in the order of training"
        raise InputError(
            f"the model answers over {flat.shape[1]} classes, the names are {classes}", where=where, hint=hint
        )
    if not np.isfinite(flat).all():
        raise BundleError("the model answers with values that are not finite", where=where)
    return _with_feature_map(_with_embedding(_with_logits(parts, tried, flat), parts, tried), parts, tried)


def assemble(model: onnx.ModelProto, info: InputInfo, choice: Choice, shape: tuple[int, int, int]) -> onnx.ModelProto:
    """The prefixed model with our input (channels, height, width) before it and our outputs after it."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    inner = graph.input[0].name
    turn = helper.make_node("Transpose", ["image"], [inner], perm=[0, 2, 3, 1])
    entry = turn if info.layout == "NHWC" else helper.make_node("Identity", ["image"], [inner])
    nodes = [entry, *graph.node, *_exits(choice)]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [info.batch or BATCH, *shape]))
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [info.batch or BATCH, *dims[1:]])
        for name, dims in _SHAPES.items()
    )
    graph.initializer.append(numpy_helper.from_array(np.asarray([0, -1], np.int64), "flat_shape"))
    graph.initializer.append(numpy_helper.from_array(np.asarray([0, -1, 1, 1], np.int64), "map_shape"))
    graph.initializer.append(numpy_helper.from_array(np.asarray(1e-12, np.float32), "smallest"))
    return result


def _exits(choice: Choice) -> list[onnx.NodeProto]:
    """The nodes that turn the model's own tensors into the three outputs."""
    nodes = [helper.make_node("Reshape", [choice.source, "flat_shape"], ["scores" if choice.takes_log else "logits"])]
    if choice.takes_log:
        nodes.append(helper.make_node("Add", ["scores", "smallest"], ["positive"]))
        nodes.append(helper.make_node("Log", ["positive"], ["logits"]))
    nodes.append(helper.make_node("Identity", [choice.embedding or "logits"], ["embedding"]))
    if choice.feature_map is None:
        nodes.append(helper.make_node("Reshape", ["logits", "map_shape"], ["feature_map"]))
    elif choice.feature_map_nhwc:
        nodes.append(helper.make_node("Transpose", [choice.feature_map], ["feature_map"], perm=[0, 3, 1, 2]))
    else:
        nodes.append(helper.make_node("Identity", [choice.feature_map], ["feature_map"]))
    return nodes


def _set_batch(model: onnx.ModelProto, size: int | None) -> None:
    """Declare the batch of inputs and outputs as fixed, or as free."""
    for value in [*model.graph.input, *model.graph.output]:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and size is None:
            dimensions[0].dim_param = BATCH
        elif dimensions:
            dimensions[0].dim_value = size


def _with_logits(parts: Parts, tried: Tried, flat: NDArray[np.float32]) -> Choice:
    choice = Choice(source=parts.scores, takes_log=False, embedding=None, feature_map=None, feature_map_nhwc=False)
    if flat.min() < 0.0 or flat.max() > 1.0:
        return choice
    if np.abs(flat.sum(axis=1) - 1.0).max() > 1e-3:
        message = "the outputs lie between 0 and 1 but do not sum to 1; a multi-label model will be answered wrongly"
        return _noted(choice, "sigmoid", "warning", message)
    before = tried.get(parts.before_softmax or "")
    if before is not None and before.size == flat.size and _same_softmax(before.reshape(flat.shape), flat):
        message = "the model ends in a softmax; its input is used as logits"
        return _noted(replace(choice, source=str(parts.before_softmax)), "softmax", "info", message)
    message = "the model gives out probabilities; their logarithm is used as logits"
    return _noted(replace(choice, takes_log=True), "softmax", "info", message)


def _same_softmax(logits: NDArray[np.float32], chances: NDArray[np.float32]) -> bool:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return bool(np.abs(powers / powers.sum(axis=1, keepdims=True) - chances).max() < 1e-4)


def _with_embedding(choice: Choice, parts: Parts, tried: Tried) -> Choice:
    found = tried.get(parts.embedding or "")
    if found is not None and found.ndim == 2 and len(found) == len(tried[parts.scores]):
        return replace(choice, embedding=parts.embedding)
    message = "no last linear layer was found; the logits stand in for the embedding"
    return _noted(choice, "no_embedding", "warning", message)


def _with_feature_map(choice: Choice, parts: Parts, tried: Tried) -> Choice:
    found = tried.get(parts.feature_map or "")
    if found is not None and found.ndim == 4 and len(found) == len(tried[parts.scores]):
        return replace(choice, feature_map=parts.feature_map, feature_map_nhwc=parts.feature_map_nhwc)
    message = "no pooling over the image was found; the logits stand in for the feature map, which shows no places"
    return _noted(choice, "no_feature_map", "warning", message)


def _noted(choice: Choice, code: str, severity: str, message: str) -> Choice:
    finding = Finding.model_validate({"code": code, "severity": severity, "message": message})
    return replace(choice, notes=(*choice.notes, finding))
