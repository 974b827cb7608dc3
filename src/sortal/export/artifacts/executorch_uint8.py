"""As `executorch`, for one image of 8-bit pixels (1, height, width, channels), with the decision in the program."""

from __future__ import annotations

from pathlib import Path

from sortal.export.artifacts.executorch import DETAILS as OF_FLOATS
from sortal.export.artifacts.executorch import details, write_lowered
from sortal.export.torch_graph.program import exported, read_source
from sortal.runtime.network_input import UINT8_NHWC

__all__ = ["DETAILS", "convert", "details"]

DETAILS = OF_FLOATS | {"input": UINT8_NHWC}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.pte`. Raises as `executorch` does, and BundleError where the preprocessing keeps 16 bits."""
    source = read_source(onnx, pixels_in=True)
    write_lowered(source, exported(source, batch=1), out / DETAILS["model"])
