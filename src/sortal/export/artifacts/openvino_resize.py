"""OpenVINO's format of the graph that takes one upright 8-bit image of any size; see `onnx-resize`.

One at a time: behind an image of free size OpenVINO 2026.4 computes a network of free batch from memory that nobody
filled, the first time it is asked. With a batch of one the network's sizes are all known, and that does not happen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sortal.export.artifacts.onnx_resize import EPSILON
from sortal.export.artifacts.openvino import DETAILS as OF_FLOATS
from sortal.export.artifacts.openvino import convert_fused
from sortal.runtime.network_input import ANY_SIZE

DETAILS: dict[str, Any] = OF_FLOATS | {"input": ANY_SIZE, "epsilon": EPSILON}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.xml` and `out/model.bin`. Raises MissingExtraError, or as `onnx-resize` does."""
    convert_fused(onnx, out, layout="NHWC any size", batch=1)
