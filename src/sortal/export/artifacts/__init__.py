"""Deployment artifacts by name. A member module offers `DETAILS` and `convert(onnx: Path, out: Path) -> None`.

`convert` turns the exported ONNX file into the artifact's files inside the folder `out`. `DETAILS` goes into the
artifact's manifest: `format`, `precision`, `model` (the file to open) and `engine` (who opens it here); `input` where
it takes pixels (`uint8 NHWC`), `epsilon` where its precision has none in `export.gate`, `for` where another program
runs it. A member may offer `details(graph: Path) -> dict` with more for the manifest, from that file or its own.

Where no engine opens the file on this system `engine` is None. Then `convert` reads back what it wrote and raises
BundleError where it is not what it should be, and `stand_in(onnx: Path, out: Path, target: Path) -> None` writes an
ONNX file with what the artifact holds, which the gate shows the user's images in its place.

A member whose `DETAILS` say `"calibrated": True` takes ranges of integers from images. In place of `convert` it offers
`calibrated(onnx: Path, out: Path, pixels) -> None`, with up to 128 of the run's training images at the network's size,
not normalized (N, height, width, channels); and, where it can, `restamped(made: Path, onnx: Path, out: Path)`, which
writes an artifact in the folder `made` again with the metadata of another file of the same network. Without the latter
`sortal calibrate` leaves the artifact out.
"""

from __future__ import annotations

from typing import Any

from sortal.core.registry import Registry

ARTIFACTS = Registry(
    kind="deployment artifact",
    group="sortal.artifacts",
    table={
        "onnx": "sortal.export.artifacts.onnx",
        "onnx-fp16": "sortal.export.artifacts.onnx_fp16",
        "onnx-resize": "sortal.export.artifacts.onnx_resize",
        "onnx-uint8": "sortal.export.artifacts.onnx_uint8",
        "onnx-uint8-nchw": "sortal.export.artifacts.onnx_uint8_nchw",
        "openvino": "sortal.export.artifacts.openvino",
        "openvino-resize": "sortal.export.artifacts.openvino_resize",
        "openvino-uint8": "sortal.export.artifacts.openvino_uint8",
        "onnx-int8": "sortal.export.artifacts.onnx_int8",
        "openvino-int8": "sortal.export.artifacts.openvino_int8",
        "tensorrt": "sortal.export.artifacts.tensorrt",
        "tensorrt-int8": "sortal.export.artifacts.tensorrt_int8",
        "tensorrt-engine": "sortal.export.artifacts.tensorrt_engine",
        "triton": "sortal.export.artifacts.triton",
        "torchserve": "sortal.export.artifacts.torchserve",
        "tflite": "sortal.export.artifacts.tflite",
        "tflite-uint8": "sortal.export.artifacts.tflite_uint8",
        "tflite-int8": "sortal.export.artifacts.tflite_int8",
        "torch": "sortal.export.artifacts.torch_program",
        "torch-uint8": "sortal.export.artifacts.torch_uint8",
        "torchscript": "sortal.export.artifacts.torchscript",
        "executorch": "sortal.export.artifacts.executorch",
        "executorch-uint8": "sortal.export.artifacts.executorch_uint8",
        "coreml": "sortal.export.artifacts.coreml",
        "coreml-int8": "sortal.export.artifacts.coreml_int8",
    },
)

FROM_WEIGHTS = Registry(
    kind="deployment artifact",
    group="sortal.artifacts_from_weights",
    table={"hub": "sortal.export.artifacts.hub"},
)
"""Artifacts made from a bundle's weights instead of its graph. A member offers `DETAILS`, `convert_bundle(bundle, out)`
and `side(folder) -> Side`, which opens what was made for the check."""


def member(name: str) -> Any:
    """The module of an artifact of either table. Raises InputError that names the nearest known ones."""
    return FROM_WEIGHTS.get(name) if name in FROM_WEIGHTS.names() else ARTIFACTS.get(name)
