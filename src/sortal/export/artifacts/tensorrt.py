"""An ONNX file prepared for TensorRT, and the `trtexec` line that builds an engine from it on the machine with the GPU.

The file is in half precision with explicit types: TensorRT 11 takes a network's precision from the file alone. Where
the batch is free the line has a profile of sizes 1, 8 and 32. Sortal checks the file with ONNX Runtime; it neither
builds nor runs an engine, which is tied to one GPU model and one version of TensorRT.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx as package

from sortal.export.artifacts.onnx_fp16 import write_half
from sortal.export.graph import INPUT
from sortal.runtime.onnx_file import read_model

DETAILS = {
    "format": "onnx",
    "precision": "float16",
    "model": "model.onnx",
    "engine": "onnxruntime",
    "for": "TensorRT",
}
PROFILE = {"min": 1, "opt": 8, "max": 32}
"""Batch sizes that the engine is built for; it is tuned for `opt`."""

SCRIPT = """#!/bin/sh
# Builds model.plan in the folder where this is typed, for the GPU and the TensorRT of this machine and no other.
exec {command} "$@"
"""


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.onnx` and `out/build.sh`. Raises as `onnx-fp16` does."""
    write_half(onnx, out / DETAILS["model"])
    line = command(onnx, model='"$(dirname "$0")/model.onnx"')
    (out / "build.sh").write_text(SCRIPT.format(command=line), encoding="utf-8")


def details(graph: Path) -> dict[str, Any]:
    """For the manifest: the line to type in the artifact's folder."""
    return {"command": command(graph)}


def command(graph: Path, *, model: str = "model.onnx") -> str:
    """The `trtexec` line for an exported file; with shapes where its batch is free.

    `--stronglyTyped` is needed up to TensorRT 10 and changes nothing in 11.
    """
    taken = package.load_model_from_string(read_model(graph)).graph.input[0].type.tensor_type.shape.dim
    parts = ["trtexec", f"--onnx={model}", "--saveEngine=model.plan", "--stronglyTyped"]
    if not taken[0].dim_value:
        sizes = "x".join(str(one.dim_value) for one in taken[1:])
        parts += [f"--{name}Shapes={INPUT}:{batch}x{sizes}" for name, batch in PROFILE.items()]
    return " ".join(parts)
