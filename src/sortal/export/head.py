"""The linear head inside an exported graph: find it, name it, write another one.

A frozen-feature probe needs a backbone that runs fast and a head that is known only after the features are. So the
backbone is exported first, features are computed by an inference engine, and the head found is written into the file.
Graphs with other heads are exported as a whole, after training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError

if TYPE_CHECKING:
    import onnx

WEIGHT, BIAS = "head.weight", "head.bias"


def set_head(
    path: Path, weight: NDArray[np.float32], bias: NDArray[np.float32], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Replace the linear head of an exported file: `weight` (C, D), `bias` (C,). C may differ from before.

    `metadata` sets entries of the file's metadata on the way. Raises BundleError when the file has no linear head or
    D is not the size of its embedding.
    """
    import onnx

    from sortal.export.graph import save_model, set_metadata
    from sortal.runtime.onnx_file import read_model

    model = onnx.load_model_from_string(read_model(path))
    write_head(model, weight, bias, where=str(path))
    set_metadata(model, metadata or {})
    save_model(model, path)


def write_head(
    model: onnx.ModelProto, weight: NDArray[np.float32], bias: NDArray[np.float32], *, where: str = "model"
) -> None:
    """As `set_head`, on a loaded model in place."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    if WEIGHT not in tensors or BIAS not in tensors:
        raise BundleError("the graph has no linear head that could be replaced", where=where)
    features = int(tensors[WEIGHT].dims[1])
    if weight.ndim != 2 or weight.shape[1] != features or bias.shape != weight.shape[:1]:
        raise BundleError(
            f"the head must be (classes, {features}) with a bias (classes,)",
            where=where,
            received=f"{weight.shape} and {bias.shape}",
        )
    tensors[WEIGHT].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weight, dtype=np.float32), WEIGHT))
    tensors[BIAS].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(bias, dtype=np.float32), BIAS))
    logits = next(output for output in model.graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_value = weight.shape[0]


def name_head(model: onnx.ModelProto) -> bool:
    """Bring a linear head into the one form `logits = Gemm(embedding, head.weight, head.bias, transB=1)`, in place.

    Returns whether there is one: a Gemm, or a MatMul with an Add, of the embedding and constants used by nothing else.
    The last layer of other heads (a hidden layer before it, two branches) is no such head and stays as it is.
    """
    found = _linear(model.graph)
    if found is None or not _is_embedding(model.graph, found[1]) or _taken_elsewhere(model.graph, found[0]):
        return False
    nodes, source, weight, bias = found
    _store(model.graph, WEIGHT, weight)
    _store(model.graph, BIAS, bias)
    from onnx import helper

    place = list(model.graph.node).index(nodes[-1])
    gemm = helper.make_node("Gemm", [source, WEIGHT, BIAS], ["logits"], name="head", transB=1)
    model.graph.node.insert(place, gemm)
    for node in nodes:
        model.graph.node.remove(node)
    _drop_unused(model.graph)
    return True


_Found = tuple[list["onnx.NodeProto"], str, NDArray[np.float32], NDArray[np.float32]]


def _linear(graph: onnx.GraphProto) -> _Found | None:
    """The nodes that make up the head, its input, and weight (C, D) and bias (C,) as arrays; None for other heads."""
    last = _producer(graph, "logits")
    if last is None:
        return None
    if last.op_type == "Add":
        return _matmul_add(graph, last)
    if last.op_type not in ("Gemm", "MatMul"):
        return None
    weight = _constant(graph, last.input[1])
    if weight is None or weight.ndim != 2:
        return None
    if last.op_type == "MatMul":
        return [last], last.input[0], weight.T, np.zeros(weight.shape[1], np.float32)
    return _gemm(graph, last, weight)


def _gemm(graph: onnx.GraphProto, node: onnx.NodeProto, weight: NDArray[np.float32]) -> _Found | None:
    options = {item.name: item.f if item.name in ("alpha", "beta") else item.i for item in node.attribute}
    if options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0 or options.get("transA", 0):
        return None
    weight = weight if options.get("transB", 0) else weight.T
    bias = _constant(graph, node.input[2]) if len(node.input) > 2 else np.zeros(weight.shape[0], np.float32)
    return None if bias is None else ([node], node.input[0], weight, np.broadcast_to(bias, weight.shape[:1]))


def _matmul_add(graph: onnx.GraphProto, add: onnx.NodeProto) -> _Found | None:
    for product, addend in (tuple(add.input), tuple(add.input)[::-1]):
        matmul, bias = _producer(graph, product), _constant(graph, addend)
        weight = _constant(graph, matmul.input[1]) if matmul and matmul.op_type == "MatMul" else None
        if matmul is None or bias is None or weight is None or weight.ndim != 2 or _uses(graph, product) != 1:
            continue
        return [matmul, add], matmul.input[0], weight.T, np.broadcast_to(bias.reshape(-1), (weight.shape[1],))
    return None


def _is_embedding(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a tensor is the one that the output `embedding` gives, directly or as a copy."""
    node = _producer(graph, "embedding")
    copies = [] if node is None or node.op_type != "Identity" else [node.input[0]]
    return name in ("embedding", *copies)


def _taken_elsewhere(graph: onnx.GraphProto, head: list[onnx.NodeProto]) -> bool:
    """Whether another part of the graph uses a tensor under one of the head's names."""
    return any({WEIGHT, BIAS} & {*node.input, *node.output} for node in graph.node if node not in head)


def _producer(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if name in node.output), None)


def _uses(graph: onnx.GraphProto, name: str) -> int:
    inside = [used for node in graph.node for used in node.input] + [output.name for output in graph.output]
    return inside.count(name)


def _constant(graph: onnx.GraphProto, name: str) -> NDArray[np.float32] | None:
    """The value of an initializer or Constant node that is float32, else None."""
    from onnx import numpy_helper

    node = _producer(graph, name)
    stored = [item.t for item in node.attribute if item.name == "value"] if node and node.op_type == "Constant" else []
    stored += [tensor for tensor in graph.initializer if tensor.name == name]
    value = numpy_helper.to_array(stored[0]) if stored else None
    return value if value is not None and value.dtype == np.float32 else None


def _store(graph: onnx.GraphProto, name: str, value: NDArray[np.float32]) -> None:
    from onnx import numpy_helper

    for tensor in [tensor for tensor in graph.initializer if tensor.name == name]:
        graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
