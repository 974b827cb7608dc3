"""An ExecuTorch program, `model.pte`, for phones and boards: one normalized image, float32, lowered to XNNPACK.

What XNNPACK has no kernel for (most of an unknown score) is left to ExecuTorch's portable kernels. The classifier's
metadata is what the program's method `sortal` returns.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from sortal.core.errors import BundleError, MissingExtraError
from sortal.export.artifacts.torch_program import said
from sortal.export.engines.executorch import SAID
from sortal.export.torch_graph.program import Source, exported, quiet, read_source

DETAILS = {"format": "executorch", "precision": "float32", "model": "model.pte", "engine": "executorch"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.pte`. Raises MissingExtraError, or BundleError for a damaged file or an operator that PyTorch or
    ExecuTorch lacks."""
    source = read_source(onnx)
    write_lowered(source, exported(source, batch=1), out / DETAILS["model"])


def details(_graph: Path) -> dict[str, Any]:
    """For the manifest: what the file was made with and for."""
    return {"backend": "XNNPACK", "made_with": f"executorch {version('executorch')}", "batch": 1}


def write_lowered(source: Source, program: ExportedProgram, target: Path) -> None:
    """A program of a fixed batch, lowered to XNNPACK where that has kernels, as the file `target`."""
    try:
        with quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        raise MissingExtraError("executorch", "executorch") from error
    own = replace(source, shape=(source.shape[0] or 1, *source.shape[1:]))
    try:
        with quiet():
            edge = to_edge_transform_and_lower(
                program, partitioner=[XnnpackPartitioner()], constant_methods={SAID: said(own)}
            )
            buffer = edge.to_executorch().buffer
    except Exception as error:  # ExecuTorch raises classes of many modules without a common base
        kinds = Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise BundleError(
            f"ExecuTorch cannot lower the graph: {reason}",
            where=source.where,
            received=", ".join(sorted(kinds)[:20]),
            hint="export to torch, onnx or tflite, which have more operators",
        ) from error
    target.write_bytes(buffer)
