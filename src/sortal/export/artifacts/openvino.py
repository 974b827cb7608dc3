"""OpenVINO's own format (IR): `model.xml` with `model.bin`, float32 kept as float32."""

from __future__ import annotations

from pathlib import Path

from sortal.core.errors import BundleError
from sortal.runtime.engines.openvino import import_openvino
from sortal.runtime.onnx_file import read_model

DETAILS = {"format": "openvino-ir", "precision": "float32", "model": "model.xml", "engine": "openvino"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.xml` and `out/model.bin`. Raises MissingExtraError, or BundleError for a bad file."""
    openvino = import_openvino()
    try:
        model = openvino.Core().read_model(read_model(onnx), b"")
        openvino.save_model(model, out / DETAILS["model"], compress_to_fp16=False)
    except RuntimeError as error:
        raise BundleError("OpenVINO cannot convert the model", where=str(onnx), received=str(error)[-300:]) from error
