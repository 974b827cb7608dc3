"""An exported graph in int8: QuantizeLinear and DequantizeLinear around its layers, weights by channel.

Only layers that lead to `logits`, `embedding` and `feature_map` compute in int8; pooled statistics stay in float32, the
unknown score is `compress.tail`. ONNX Runtime and OpenVINO both run this form with integer kernels. Weights
of 7 bits (`narrow`) are for processors without VNNI, whose 16-bit sums of two products saturate with 8 (ONNX Runtime,
"Quantize ONNX models").
Needs `onnx`, no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType
from onnxruntime.quantization.shape_inference import quant_pre_process

from sortal.compress.ranges import Range
from sortal.core.errors import BundleError
from sortal.export.unknown import remove_unknown
from sortal.runtime.engines.onnxruntime import OUTPUTS
from sortal.runtime.onnx_file import read_model

WEIGHTED = ("Conv", "Gemm", "MatMul")
PASSING = ("Add", "MaxPool", "AveragePool", "GlobalAveragePool")
FOLDED = ("Relu", "Clip")
"""Activations that disappear in the range of what follows."""


def simplified(path: Path) -> onnx.ModelProto:
    """The graph of an exported file with constants folded and shapes known, without the unknown score.

    Raises BundleError where it is in int8 already or cannot be simplified.
    """
    model = onnx.load_model_from_string(read_model(path))
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise BundleError("this graph is quantized already", where=str(path), hint="compress the float32 artifact")
    remove_unknown(model)
    with TemporaryDirectory(prefix="sortal-") as folder, quiet():
        plain, ready = Path(folder) / "plain.onnx", Path(folder) / "ready.onnx"
        plain.write_bytes(model.SerializeToString())
        try:
            quant_pre_process(plain, ready, skip_symbolic_shape=True)
        except Exception as error:  # ONNX Runtime and onnx raise classes without a common base
            raise BundleError(f"the graph cannot be made ready for int8: {error}", where=str(path)) from error
        found = onnx.load_model_from_string(ready.read_bytes())
    _name_nodes(found)
    return found


def layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the layers with stored weights that lead to the outputs, from the input on."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        node.name
        for node in _leading_to(model, OUTPUTS)
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in stored
    )


def tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the activations whose ranges int8 needs, in graph order."""
    stored = {tensor.name for tensor in model.graph.initializer}
    chosen = set(layers(model)) | set(_passing(model))
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in chosen:
            found |= dict.fromkeys(name for name in (*node.input, *node.output) if name and name not in stored)
    for node in model.graph.node:
        if node.op_type in FOLDED and node.input[0] in found:
            found |= dict.fromkeys(node.output)
    return tuple(found)


def with_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> bytes:
    """The graph as bytes, giving out these tensors too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {output.name for output in copy.graph.output} | {"image"}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    data: bytes = copy.SerializeToString()
    return data


def quantized(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    floating: frozenset[str] = frozenset(),
    narrow: bool = False,
    only: str | None = None,
    symmetric: bool = False,
    brief: bool = True,
) -> onnx.ModelProto:
    """A copy in int8 but for the layers `floating`; with `only`, just this layer is in int8.

    `symmetric` activations are signed with zero as their zero point, and biases stay in float32: what TensorRT takes.
    With `brief`, tensors inside get short names; without, a weight `w` is stored as `w_quantized`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    folded = [node.name for node in copy.graph.node if node.op_type in FOLDED and node.input[0] in ranges]
    chosen = [only] if only else [*(set(layers(copy)) - floating), *_passing(copy), *folded]
    if not chosen or (only is None and not set(layers(copy)) - floating):
        return copy
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    with quiet():
        maker = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=narrow,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=sorted(chosen),
            nodes_to_exclude=[],
            op_types_to_quantize=[*WEIGHTED, *PASSING, *FOLDED],
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {},
        )
        maker.quantize_model()
        maker.model.topological_sort()
    return shortened(maker.model.model) if brief else maker.model.model


def with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """The model as bytes with these entries in its metadata, and no others."""
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _leading_to(model: onnx.ModelProto, outputs: tuple[str, ...]) -> list[onnx.NodeProto]:
    """Nodes whose results reach one of these outputs, in graph order."""
    wanted, found = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found[::-1]


def _passing(model: onnx.ModelProto) -> list[str]:
    """Residual sums and pools inside the backbone, which would break the chain of integers between layers.

    Where LayerNormalization reads the sums, as in transformers and ConvNeXt, there is no chain, and single channels are
    far larger than the rest: sums stay in float32.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    normalized = any(node.op_type == "LayerNormalization" for node in model.graph.node)
    return [
        node.name
        for node in _leading_to(model, ("feature_map",))
        if node.op_type in PASSING and not set(node.input) & stored and not (normalized and node.op_type == "Add")
    ]


def _name_nodes(model: onnx.ModelProto) -> None:
    """Layers are spoken of by name, so each needs one of its own."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type.lower()}_{number}"
        taken.add(node.name)


def shortened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Short names for what lies inside, and no notes: of a small network they are a hundredth of the file."""
    nested = any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
    kept = {value.name for value in (*model.graph.input, *model.graph.output)} | {"head.weight", "head.bias", ""}
    short: dict[str, str] = {}

    def brief(name: str) -> str:
        return name if nested or name in kept else short.setdefault(name, f"{len(short):x}")

    for tensor in model.graph.initializer:
        tensor.name = brief(tensor.name)
    for node in model.graph.node:
        node.input[:] = [brief(name) for name in node.input]
        node.output[:] = [brief(name) for name in node.output]
        node.doc_string = ""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
    del model.graph.value_info[:]
    model.producer_name = "sortal"
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """ONNX Runtime's tools write advice to the root logger, which no user of Sortal could follow."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
