"""An ONNX file in int8 for TensorRT, and the `trtexec` line that builds an engine from it on the machine with the GPU.

TensorRT 11 has no calibrators: ranges stand in QuantizeLinear nodes, symmetric, around every layer. `sortal compress
RUN compress.int8=true compress.tensorrt=true` makes it and judges its accuracy with ONNX Runtime; it neither builds nor
times an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sortal.export.artifacts import onnx_int8
from sortal.export.artifacts.tensorrt import SCRIPT, command

DETAILS: dict[str, Any] = onnx_int8.DETAILS | {"for": "TensorRT"}


calibrated = onnx_int8.calibrated
"""As `onnx-int8`."""


def restamped(made: Path, onnx: Path, out: Path) -> None:
    """As `onnx-int8` does, with `out/build.sh`."""
    onnx_int8.restamped(made, onnx, out)
    _write_script(out)


def stamped(model: Path, said: Mapping[str, str], out: Path) -> None:
    """As `onnx-int8` does, with `out/build.sh`."""
    onnx_int8.stamped(model, said, out)
    _write_script(out)


def details(graph: Path) -> dict[str, Any]:
    """For the manifest: the line to type in the artifact's folder."""
    return {"command": command(graph)}


def _write_script(out: Path) -> None:
    line = command(out / DETAILS["model"], model='"$(dirname "$0")/model.onnx"')
    (out / "build.sh").write_text(SCRIPT.format(command=line), encoding="utf-8")
