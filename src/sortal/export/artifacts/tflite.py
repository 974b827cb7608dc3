"""A TFLite file in float32, for LiteRT on phones and boards: one normalized image with channels last in, as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx as package

from sortal.core.publish import publish_file
from sortal.export.tflite.convert import converted
from sortal.export.tflite.coverage import coverage
from sortal.export.tflite.stamp import stamped
from sortal.runtime.engines.litert import FEATURE_MAP
from sortal.runtime.metadata import from_metadata
from sortal.runtime.network_input import FLOAT32_NHWC, KEY
from sortal.runtime.onnx_file import read_model

DETAILS = {
    "format": "tflite",
    "precision": "float32",
    "model": "model.tflite",
    "engine": "litert",
    "input": FLOAT32_NHWC,
}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.tflite`. Raises MissingExtraError, or BundleError for a damaged file or an unknown operator."""
    model = package.load_model_from_string(read_model(onnx))
    publish_file(out / DETAILS["model"], written(model, converted(model, where=str(onnx)), where=str(onnx)))


def details(graph: Path) -> dict[str, Any]:
    """For the manifest: the operators of the file, and which of them each delegate takes."""
    return coverage(graph) if graph.suffix == ".tflite" else {}


def written(model: package.ModelProto, data: bytes, *, where: str, takes: str = FLOAT32_NHWC) -> bytes:
    """The converted file with what the graph it was made from says, and with what its input and feature map are."""
    said = {item.key: item.value for item in model.metadata_props}
    feature_map = next(output for output in model.graph.output if output.name == "feature_map")
    planes = len(feature_map.type.tensor_type.shape.dim)
    order = {FEATURE_MAP: "NHWC"} if planes == 4 else {}
    labels = from_metadata(said, where=where).labels.names
    return stamped(data, {**said, KEY: takes, **order}, labels)
