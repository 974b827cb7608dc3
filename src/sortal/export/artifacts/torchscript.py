"""A TorchScript file, `model.pt`, for services that still call `torch.jit.load`. PyTorch has deprecated TorchScript:
new services take `torch` or `onnx`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sortal.export.artifacts.torch_program import details, said
from sortal.export.engines.torch import METADATA_FILE
from sortal.export.torch_graph.program import quiet, read_source

__all__ = ["DETAILS", "convert", "details"]

DETAILS = {
    "format": "torchscript",
    "precision": "float32",
    "model": "model.pt",
    "engine": "torch",
    "deprecated": "PyTorch has deprecated TorchScript; use the artifact torch or onnx where you can",
}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.pt`. Raises BundleError for a damaged file or an operator that PyTorch lacks."""
    source = read_source(onnx)
    with quiet(), torch.no_grad():
        script = torch.jit.trace(  # type: ignore[no-untyped-call]
            source.module, source.example(), check_trace=False
        )
        frozen = torch.jit.freeze(script.eval())
        torch.jit.save(frozen, str(out / DETAILS["model"]), _extra_files={METADATA_FILE: said(source)})
