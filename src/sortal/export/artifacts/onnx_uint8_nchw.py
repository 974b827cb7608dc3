"""As `onnx-uint8`, for pixels with the channels first: (N, channels, height, width)."""

from __future__ import annotations

from pathlib import Path

from sortal.export.artifacts.onnx_uint8 import DETAILS as OF_NHWC
from sortal.export.artifacts.onnx_uint8 import write_fused

DETAILS = OF_NHWC | {"input": "uint8 NCHW"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.onnx`. Raises as `onnx-uint8` does."""
    write_fused(onnx, out / DETAILS["model"], layout="NCHW")
