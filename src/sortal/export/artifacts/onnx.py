"""The exported ONNX file itself, as ONNX Runtime, OpenVINO and most other tools open it."""

from __future__ import annotations

from pathlib import Path

from sortal.runtime.onnx_file import read_model

DETAILS = {"format": "onnx", "precision": "float32", "model": "model.onnx", "engine": "onnxruntime"}


def convert(onnx: Path, out: Path) -> None:
    """Copy the checked file to `out/model.onnx`. Raises BundleError when it is damaged or keeps data elsewhere."""
    (out / DETAILS["model"]).write_bytes(read_model(onnx))
