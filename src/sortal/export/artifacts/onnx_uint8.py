"""An ONNX file that takes 8-bit pixels (N, height, width, channels) as decoders give them; see `export.fused`."""

from __future__ import annotations

from pathlib import Path

import onnx as package

from sortal.export.fused import Layout, fuse
from sortal.export.graph import save_model
from sortal.runtime.onnx_file import read_model

DETAILS = {
    "format": "onnx",
    "precision": "float32",
    "model": "model.onnx",
    "engine": "onnxruntime",
    "input": "uint8 NHWC",
}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.onnx`. Raises BundleError for a damaged file, or one whose preprocessing keeps 16 bits."""
    write_fused(onnx, out / DETAILS["model"], layout="NHWC")


def write_fused(onnx: Path, target: Path, *, layout: Layout) -> None:
    """The fused graph of an exported, stamped file, as the file `target`."""
    model = package.load_model_from_string(read_model(onnx))
    fuse(model, layout=layout, where=str(onnx))
    save_model(model, target)
