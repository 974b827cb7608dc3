"""A TensorRT engine built here, for the GPU and the TensorRT of this machine and no other, and checked on that GPU.

The artifact `tensorrt` is what travels: its file is the source of this one. See `export.tensorrt` and, for what an
engine is tied to, `runtime.plan_file`.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sortal.export.artifacts.onnx_fp16 import write_half
from sortal.export.artifacts.tensorrt import PROFILE
from sortal.export.tensorrt.build import build_engine
from sortal.runtime.plan_file import BatchProfile, read_info

DETAILS = {"format": "tensorrt-plan", "precision": "float16", "model": "model.plan", "engine": "tensorrt"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.plan` and its sidecar. Raises as `onnx-fp16` and `build_engine` do."""
    with TemporaryDirectory(prefix="sortal-tensorrt-") as folder:
        half = Path(folder, "model.onnx")
        write_half(onnx, half)
        build_engine(half, out / DETAILS["model"], profile=BatchProfile(**PROFILE))


def details(graph: Path) -> dict[str, Any]:
    """For the manifest: what the engine is tied to."""
    plan = graph if graph.name == DETAILS["model"] else graph.parent / DETAILS["model"]
    if not plan.is_file():
        return {}
    info = read_info(plan)
    return {"machine": info.machine.model_dump(), "batches": info.profile.model_dump()}
