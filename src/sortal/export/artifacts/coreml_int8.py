"""As `coreml`, with 8-bit weights in the layers that lead to the feature map, one scale for each output channel.

Core ML makes float16 of them when it loads or computes; activations are not rounded, so no images are needed. Layers of
few weights, the head and the unknown score keep theirs.
"""

from __future__ import annotations

from pathlib import Path

from sortal.export.artifacts.coreml import DETAILS as OF_FLOATS
from sortal.export.artifacts.coreml import details, stand_in
from sortal.export.coreml.check import check_package
from sortal.export.coreml.compress import to_int8
from sortal.export.coreml.convert import write_package

__all__ = ["DETAILS", "convert", "details", "stand_in"]

DETAILS = OF_FLOATS | {"precision": "int8", "epsilon": 0.3}


def convert(onnx: Path, out: Path) -> None:
    """As `coreml`."""
    write_package(onnx, out / DETAILS["model"], compress=to_int8)
    check_package(onnx, out / DETAILS["model"], eight_bits=True)
