"""OpenVINO's own format (IR): `model.xml` with `model.bin`, float32 kept as float32."""

from __future__ import annotations

from pathlib import Path

import onnx as package

from sortal.core.errors import BundleError, MachineError
from sortal.export.fused import Layout, fuse
from sortal.runtime.engines.openvino import import_openvino
from sortal.runtime.onnx_file import read_model

DETAILS = {"format": "openvino-ir", "precision": "float32", "model": "model.xml", "engine": "openvino"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.xml` and `out/model.bin`. Raises MissingExtraError, or BundleError for a bad file."""
    write_ir(read_model(onnx), out / DETAILS["model"], where=str(onnx))


def convert_fused(onnx: Path, out: Path, *, layout: Layout, batch: int | None = None) -> None:
    """As `convert`, of the fused graph of an exported, stamped file; see `export.fused.fuse`."""
    model = package.load_model_from_string(read_model(onnx))
    fuse(model, layout=layout, batch=batch, where=str(onnx))
    write_ir(model.SerializeToString(), out / DETAILS["model"], where=str(onnx))


def write_ir(data: bytes, target: Path, *, where: str) -> None:
    """The ONNX model `data` as `target` and a `.bin` beside it. Raises BundleError where OpenVINO cannot take it,
    MachineError where it cannot be written."""
    openvino = import_openvino()
    try:
        model = openvino.Core().read_model(data, b"")
    except RuntimeError as error:
        raise BundleError("OpenVINO cannot convert the model", where=where, received=str(error)[-300:]) from error
    try:
        openvino.save_model(model, target, compress_to_fp16=False)
    except RuntimeError as error:  # of the disk it says `iostream error`
        hint = "see whether the disk is full, or the size of files limited"
        raise MachineError(
            "OpenVINO cannot write the model", where=str(target), received=str(error)[-300:], hint=hint
        ) from error
