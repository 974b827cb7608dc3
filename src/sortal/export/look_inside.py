"""Look into a model file: all its outputs by name, tensors inside it, or only the part behind one of them.

Engines read the four outputs that a classifier needs. A parity check also compares what a graph normalizes, resizes and
decides by itself, for which the file is opened once more: on ONNX Runtime or OpenVINO, the only two that can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import BundleError
from sortal.export.graph import INPUT
from sortal.runtime.engines.batches import Shape, run_batch
from sortal.runtime.engines.onnxruntime import open_session
from sortal.runtime.engines.openvino import import_openvino
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.onnx_file import read_model
from sortal.runtime.signal_stack import kept_signal_stack

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class View:
    """An opened file, or a part of it."""

    names: tuple[str, ...]
    """Of the outputs."""
    run: Callable[[NetworkInput], Arrays]
    """A batch of what the file, or the part, takes to its outputs."""


def open_view(
    path: Path, engine: str, *, threads: int, inside: Sequence[str] = (), behind: str | None = None
) -> View | None:
    """The file on an engine, or None where that engine cannot be asked for more than logits.

    `inside` names tensors to give out in place of the outputs, `behind` one to begin with in place of the image.
    Raises BundleError where the file has no such tensor.
    """
    name = engine.partition(":")[0]
    if name == "onnxruntime":
        return _onnxruntime(path, threads, inside, behind)
    if name == "openvino":
        return _openvino(path, threads, inside, behind)
    return None


def _onnxruntime(path: Path, threads: int, inside: Sequence[str], behind: str | None) -> View:
    data = read_model(path)
    if inside or behind:
        import onnx

        model = onnx.load_model_from_string(data)
        _cut(model, list(inside) or [output.name for output in model.graph.output], behind, str(path))
        data = model.SerializeToString()
    session = open_session(data, threads=threads, where=str(path))
    names = tuple(output.name for output in session.get_outputs())
    taken = session.get_inputs()[0]
    shape: Shape = tuple(size if isinstance(size, int) else None for size in taken.shape)

    def run(batch: NetworkInput) -> Arrays:
        found = run_batch(lambda part: list(session.run(names, {taken.name: part})), batch, shape, where=str(path))
        return dict(zip(names, found, strict=True))

    return View(names=names, run=run)


def _cut(model: onnx.ModelProto, wanted: list[str], behind: str | None, where: str) -> None:
    """Leave what the tensors `wanted` need, beginning with `behind`, in place."""
    import onnx
    from onnx import helper

    graph = model.graph
    known = {name for node in graph.node for name in node.output}
    _require([*wanted, *([behind] if behind else [])], known, where)
    kept = {output.name: output for output in graph.output}
    del graph.output[:]
    graph.output.extend(kept.get(name, onnx.ValueInfoProto(name=name)) for name in wanted)
    if behind is None:
        return
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    taken = helper.make_tensor_value_info(
        behind, onnx.TensorProto.FLOAT, [batch.dim_param or batch.dim_value, None, None, None]
    )
    nodes = _needed(graph, wanted, behind)
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(taken)


def _needed(graph: onnx.GraphProto, wanted: Sequence[str], behind: str) -> list[onnx.NodeProto]:
    made_by = {name: node for node in graph.node for name in node.output}
    seen: set[str] = set()
    waiting = [name for name in wanted if name != behind]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.output[0] not in seen:
            seen.add(node.output[0])
            waiting.extend(name for name in node.input if name != behind)
    return [node for node in graph.node if node.output[0] in seen]


def _openvino(path: Path, threads: int, inside: Sequence[str], behind: str | None) -> View:
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(path) if path.suffix == ".xml" else core.read_model(read_model(path), b"")
    names = tuple(inside) or tuple(sorted(port.get_names())[0] for port in model.outputs)
    ports = {name: port for node in model.get_ordered_ops() for port in node.outputs() for name in port.get_names()}
    _require([*inside, *([behind] if behind else [])], ports, str(path))
    taken = INPUT
    if inside or behind:
        begin = model.get_parameters()
        if behind is not None:
            taken = "part"
            begin = [_begin_at(openvino, ports[behind], taken)]
        given = {name: end for end in model.get_results() for name in end.output(0).get_names()}
        ends = [given.get(name) or openvino.opset13.result(ports[name]) for name in names]
        model = openvino.Model(ends, begin, "part")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    with kept_signal_stack():
        request = core.compile_model(model, "CPU", settings).create_infer_request()
    shape: Shape = tuple(size.get_length() if size.is_static else None for size in model.inputs[0].get_partial_shape())

    def run(batch: NetworkInput) -> Arrays:
        def once(part: NetworkInput) -> list[NDArray[Any]]:
            results = request.infer({0: part})
            return [np.array(results[place]) for place in range(len(names))]

        return dict(zip(names, run_batch(once, batch, shape, where=str(path)), strict=True))

    return View(names=names, run=run)


def _begin_at(openvino: Any, port: Any, name: str) -> Any:
    """A parameter that everything behind the port is fed from."""
    parameter = openvino.opset13.parameter(port.get_partial_shape(), port.get_element_type(), name=name)
    for target in port.get_target_inputs():
        target.replace_source_output(parameter.output(0))
    return parameter


def _require(names: Sequence[str], known: Any, where: str) -> None:
    missing = [name for name in names if name not in known]
    if missing:
        raise BundleError("the graph has no tensor of this name", where=where, received=", ".join(missing))
