"""An ONNX file that takes one upright 8-bit image of any size and does the rest: resizing, normalization, decision.

Several images may go in at once if they are of one size. See `export.fused_resize` for what cannot be done so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sortal.export.artifacts.onnx_uint8 import DETAILS as RESIZED_OUTSIDE
from sortal.export.artifacts.onnx_uint8 import write_fused
from sortal.runtime.network_input import ANY_SIZE

EPSILON = 5e-3
"""For probabilities behind samples that rounding moved by a grey level; seen: 0.0004 on photos of 81 classes."""

DETAILS: dict[str, Any] = RESIZED_OUTSIDE | {"input": ANY_SIZE, "epsilon": EPSILON}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.onnx`. Raises BundleError for a damaged file, or preprocessing that a graph cannot do."""
    write_fused(onnx, out / DETAILS["model"], layout="NHWC any size")
