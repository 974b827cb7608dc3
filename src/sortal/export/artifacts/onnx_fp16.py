"""An ONNX file in half precision, float32 at its input and outputs: half the size; faster where hardware has float16.

ONNX Runtime runs it on CPUs too, mostly by computing in float32 between conversions, so there it is not faster.
"""

from __future__ import annotations

from pathlib import Path

import onnx as package

from sortal.export.graph import save_model
from sortal.export.half import to_half
from sortal.runtime.onnx_file import read_model

DETAILS = {"format": "onnx", "precision": "float16", "model": "model.onnx", "engine": "onnxruntime"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.onnx`. Raises BundleError for a damaged file, or weights that float16 cannot hold."""
    write_half(onnx, out / DETAILS["model"])


def write_half(onnx: Path, target: Path) -> None:
    """An exported file in half precision, as the file `target`."""
    save_model(to_half(package.load_model_from_string(read_model(onnx)), where=str(onnx)), target)
