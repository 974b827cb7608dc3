"""OpenVINO's format of the graph that takes 8-bit pixels (N, height, width, channels) and decides; see `onnx-uint8`.

OpenVINO's CPU computes in float32 where that graph has float64: a probability within 1e-6 of a limit may fall on its
other side.
"""

from __future__ import annotations

from pathlib import Path

from sortal.export.artifacts.openvino import DETAILS as OF_FLOATS
from sortal.export.artifacts.openvino import convert_fused
from sortal.runtime.network_input import UINT8_NHWC

DETAILS = OF_FLOATS | {"input": UINT8_NHWC}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.xml` and `out/model.bin`. Raises MissingExtraError, or as `onnx-uint8` does."""
    convert_fused(onnx, out, layout="NHWC")
