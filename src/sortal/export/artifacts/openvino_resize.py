"""OpenVINO's format of the graph that takes one upright 8-bit image of any size; see `onnx-resize`."""

from __future__ import annotations

from pathlib import Path

from sortal.export.artifacts.openvino import DETAILS as OF_FLOATS
from sortal.export.artifacts.openvino import convert_fused
from sortal.runtime.network_input import ANY_SIZE

DETAILS = OF_FLOATS | {"input": ANY_SIZE}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.xml` and `out/model.bin`. Raises MissingExtraError, or as `onnx-resize` does."""
    convert_fused(onnx, out, layout="NHWC any size")
