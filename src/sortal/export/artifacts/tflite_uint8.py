"""A TFLite file that takes resized 8-bit pixels with channels last and decides: normalization, calibration, thresholds
and the limit of the unknown score are in the graph (see `export.fused`). Its arithmetic is float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx as package

from sortal.core.publish import publish_file
from sortal.export.artifacts.tflite import DETAILS as OF_FLOATS
from sortal.export.artifacts.tflite import details as details_of_floats
from sortal.export.artifacts.tflite import written
from sortal.export.fused import fuse
from sortal.export.tflite.convert import converted
from sortal.runtime.network_input import UINT8_NHWC
from sortal.runtime.onnx_file import read_model

DETAILS = OF_FLOATS | {"input": UINT8_NHWC}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/model.tflite`. Raises as `tflite` does, and BundleError where the preprocessing keeps 16 bits."""
    model = package.load_model_from_string(read_model(onnx))
    fuse(model, layout="NHWC", where=str(onnx))
    data = written(model, converted(model, where=str(onnx)), where=str(onnx), takes=UINT8_NHWC)
    publish_file(out / DETAILS["model"], data)


def details(graph: Path) -> dict[str, Any]:
    """See `tflite`."""
    return details_of_floats(graph)
