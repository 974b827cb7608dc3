"""A Core ML package, `model.mlpackage`, for iPhone, iPad and Mac: an image in, class names and probabilities out.

Weights are float16. Only Apple's systems run it: what is checked here is what the package holds, see
`export.coreml.check`, and its weights in the original's graph on real images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sortal.export.coreml.check import check_package, report_beside, write_stand_in
from sortal.export.coreml.convert import write_package

DETAILS: dict[str, Any] = {
    "format": "mlprogram",
    "precision": "float16",
    "model": "model.mlpackage",
    "engine": None,
    "for": "Core ML, which Apple's systems alone can run",
    "input": "image",
}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.mlpackage` and `out/check.json`. Raises MissingExtraError; BundleError for a damaged file, an
    operator that PyTorch or Core ML lacks, and a package that does not hold what it should."""
    write_package(onnx, out / DETAILS["model"])
    check_package(onnx, out / DETAILS["model"])


def stand_in(onnx: Path, out: Path, target: Path) -> None:
    """Write `target`: the original's graph with the weights as the package has them, which can be run here."""
    write_stand_in(onnx, out / DETAILS["model"], target)


def details(graph: Path) -> dict[str, Any]:
    """For the manifest: what was checked, where the report lies beside the package."""
    return report_beside(graph)
