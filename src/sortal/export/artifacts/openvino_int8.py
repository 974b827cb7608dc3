"""OpenVINO's own format (IR) in int8, quantized by NNCF on images: `model.xml` with `model.bin`.

Preset `mixed` (symmetric weights by channel, asymmetric activations), fast bias correction; for transformers NNCF's
own scheme with smoothed activations (Xiao et al. 2023, "SmoothQuant"). The unknown score stays in float32. NNCF reports
to Google Analytics where `openvino-telemetry` is installed, which is kept from it. `sortal compress` tries this beside
quantization of its own and attaches what is best; `sortal export --to openvino-int8` makes it alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sortal.core.errors import BundleError, MissingExtraError
from sortal.core.preprocess import Pixels, normalize
from sortal.export.artifacts import onnx_int8
from sortal.runtime.engines.openvino import import_openvino, without_telemetry
from sortal.runtime.metadata import from_metadata
from sortal.runtime.onnx_file import read_model

DETAILS: dict[str, Any] = {
    "format": "openvino-ir",
    "precision": "int8",
    "model": "model.xml",
    "engine": "openvino",
    "calibrated": True,
    "epsilon": 0.1,
}

_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
_FRAMEWORK = "framework"


def calibrated(onnx: Path, out: Path, pixels: Pixels) -> None:
    """Write `out/model.xml` and `out/model.bin`, with ranges from pixels (N, H, W, C) of the network's size.

    Raises MissingExtraError, or BundleError where NNCF or OpenVINO cannot.
    """
    openvino, nncf = import_openvino(), _import_nncf()
    try:
        model = openvino.Core().read_model(read_model(onnx), b"")
        spec = from_metadata(_said(model), where=str(onnx)).preprocess
        kinds = {operation.get_type_name() for operation in model.get_ops()}
        made = nncf.quantize(
            model,
            nncf.Dataset([normalize(spec, pixels[row : row + 1]) for row in range(len(pixels))]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pixels),
            fast_bias_correction=True,
            model_type=nncf.ModelType.TRANSFORMER if _attends(kinds) else None,
            ignored_scope=nncf.IgnoredScope(patterns=[r"unknown\..*"], validate=False),
        )
        openvino.save_model(made, out / DETAILS["model"], compress_to_fp16=False)
    except (RuntimeError, nncf.InternalError, nncf.ValidationError, nncf.UnsupportedModelError) as error:
        raise BundleError("NNCF cannot quantize the model", where=str(onnx), received=str(error)[-300:]) from error


def restamped(made: Path, onnx: Path, out: Path) -> None:
    """Write the artifact in the folder `made` again, integers as they are, with the metadata of another file of its
    network. Raises BundleError for a damaged file."""
    said = _said(import_openvino().Core().read_model(read_model(onnx), b""))
    stamped(next(made / name for name in ("model.xml", "model.onnx") if (made / name).is_file()), said, out)


def stamped(model: Path, said: Mapping[str, str], out: Path) -> None:
    """Write the file `model` (IR, or ONNX for OpenVINO) into `out` with this metadata."""
    if model.suffix == ".onnx":
        onnx_int8.stamped(model, said, out)
        return
    openvino = import_openvino()
    try:
        found = openvino.Core().read_model(model)
        for key, value in said.items():
            found.set_rt_info(value, [_FRAMEWORK, key])
        openvino.save_model(found, out / DETAILS["model"], compress_to_fp16=False)
    except RuntimeError as error:
        raise BundleError("OpenVINO cannot read the model", where=str(model), received=str(error)[-300:]) from error


def layers(path: Path) -> dict[str, bool]:
    """For each layer with stored weights of an IR, by name: whether its weights are integers."""
    found = {}
    for operation in import_openvino().Core().read_model(path).get_ordered_ops():
        if operation.get_type_name() in _WEIGHTED:
            weights = _stored(operation.input_value(1).get_node())
            if weights is not None:
                found[operation.get_friendly_name()] = weights.get_element_type().get_type_name() in ("i8", "u8")
    return found


def _stored(node: Any) -> Any:
    """The constant that weights come from, through conversions and scales; None where they are computed."""
    while node.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape", "FakeQuantize", "Transpose"):
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _attends(kinds: set[str]) -> bool:
    """Whether a network is a transformer: attention is all that takes a softmax inside."""
    return bool(kinds & {"Softmax", "SoftMax", "ScaledDotProductAttention"})


def _said(model: Any) -> dict[str, str]:
    found = model.get_rt_info([_FRAMEWORK]).value if model.has_rt_info([_FRAMEWORK]) else {}
    return {str(key): str(value) for key, value in found.items()}


def _import_nncf() -> Any:
    with without_telemetry():
        try:
            import nncf
        except ImportError as error:
            raise MissingExtraError("nncf", "compress") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf
