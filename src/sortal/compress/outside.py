"""Candidates that other tools make from the same graph: OpenVINO's NNCF, and ONNX Runtime's dynamic quantization.

NNCF runs in a process of its own, as every converter does. Dynamic quantization finds the ranges of activations while
the network runs; it pays for linear layers alone, so it is tried where most layers are linear (transformers, ConvNeXt),
and convolutions stay in float32.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from sortal.compress.graph import layers, quiet
from sortal.compress.pricing import Candidate, Pricing, size_of
from sortal.compress.search import Search
from sortal.core.errors import BundleError
from sortal.core.progress import Listener
from sortal.export.artifacts import ARTIFACTS
from sortal.export.conversion import convert_apart

LINEAR = ("Gemm", "MatMul")
NNCF = "openvino-int8"
TIME_LIMIT_S = 900.0


def outside_candidates(
    original: Path, search: Search, folder: Path, listener: Listener, *, time_limit_s: float = TIME_LIMIT_S
) -> list[Candidate]:
    """What other tools make of the file `original`. One that fails, crashes or takes too long is said and left out."""
    found = list[Candidate]()
    if _is_linear(search.model):
        listener.say("trying int8: dynamic, linear layers")
        found.append(_dynamic(search, folder))
    if find_spec("nncf") is not None and find_spec("openvino") is not None:
        listener.say("trying int8: NNCF")
        try:
            found.append(_by_nncf(original, search.pricing, folder, time_limit_s))
        except BundleError as error:
            listener.say(f"NNCF made nothing: {error.what}")
    return found


def _is_linear(model: onnx.ModelProto) -> bool:
    """Whether at least half of the layers are linear."""
    chosen = set(layers(model))
    kinds = [node.op_type in LINEAR for node in model.graph.node if node.name in chosen]
    return 2 * sum(kinds) >= len(kinds)


def _dynamic(search: Search, folder: Path) -> Candidate:
    copy, target = onnx.ModelProto(), folder / "dynamic.raw.onnx"
    copy.CopyFrom(search.model)
    linear = [node.name for node in copy.graph.node if node.op_type in LINEAR and node.name in set(layers(copy))]
    with quiet():
        quantize_dynamic(
            copy,
            target,
            op_types_to_quantize=["MatMul"],  # what a Gemm becomes first
            nodes_to_quantize=[*linear, *(f"{name}_MatMul" for name in linear)],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    made = onnx.load_model_from_string(target.read_bytes())
    left = {node.name for node in made.graph.node if node.op_type in ("Conv", *LINEAR)}
    names = layers(search.model)
    floating = tuple(name for name in names if name in left or f"{name}_MatMul" in left)
    one = search.candidate(made, "dynamic, linear layers", method="PTQ dynamic", floating=floating)
    return one.with_layers({name: name not in floating for name in names})


def _by_nncf(original: Path, pricing: Pricing, folder: Path, time_limit_s: float) -> Candidate:
    out = folder / "nncf"
    out.mkdir()
    convert_apart(NNCF, original, out, time_limit_s=time_limit_s, pixels=pricing.material.calibration.pixels)
    member = ARTIFACTS.get(NNCF)
    path = out / member.DETAILS["model"]
    found: dict[str, bool] = member.layers(path)
    return Candidate(
        name="NNCF, 8-bit weights",
        path=path,
        method="NNCF",
        price=pricing(path, "openvino"),
        size_bytes=size_of(path),
        engine="openvino",
        floating=tuple(name for name, rounded in found.items() if not rounded),
        layers=found,
    )
