"""As `torch`, for 8-bit pixels (N, height, width, channels), with the decision in the program; see `export.fused`."""

from __future__ import annotations

from pathlib import Path

from sortal.export.artifacts.torch_program import DETAILS as OF_FLOATS
from sortal.export.artifacts.torch_program import details, write_program
from sortal.export.torch_graph.program import read_source
from sortal.runtime.network_input import UINT8_NHWC

__all__ = ["DETAILS", "convert", "details"]

DETAILS = OF_FLOATS | {"input": UINT8_NHWC}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.pt2`. Raises as `torch` does, and BundleError where the preprocessing keeps 16 bits."""
    write_program(read_source(onnx, pixels_in=True), out / DETAILS["model"])
