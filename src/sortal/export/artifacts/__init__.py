"""Deployment artifacts by name. A member module offers `DETAILS` and `convert(onnx: Path, out: Path) -> None`.

`convert` turns the exported ONNX file into the artifact's files inside the folder `out`. `DETAILS` goes into the
artifact's manifest: `format`, `precision`, `model` (the file to open) and `engine` (who opens it here).
"""

from __future__ import annotations

from sortal.core.registry import Registry

ARTIFACTS = Registry(
    kind="deployment artifact",
    group="sortal.artifacts",
    table={
        "onnx": "sortal.export.artifacts.onnx",
        "openvino": "sortal.export.artifacts.openvino",
    },
)
