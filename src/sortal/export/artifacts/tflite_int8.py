"""A TFLite file in int8 for NPUs, DSPs and fast CPUs: integer weights and activations, calibrated on the run's images.

Its input tensor holds int8 levels of normalized numbers with channels last; LiteRT's engine here makes them. Outputs
are float32. What stays in float32 and why is in `export.tflite.int8`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx as package

from sortal.core.errors import BundleError
from sortal.core.preprocess import Pixels, normalize
from sortal.core.publish import publish_file
from sortal.export.artifacts import tflite
from sortal.export.tflite.convert import converted
from sortal.export.tflite.int8 import in_int8
from sortal.runtime.metadata import from_metadata
from sortal.runtime.onnx_file import read_model

DETAILS: dict[str, Any] = tflite.DETAILS | {"precision": "int8", "calibrated": True, "epsilon": 0.3}
"""epsilon: the largest lead of an answer that changed was 0.24, on 296 images of 81 classes (docs/export.md)."""


def calibrated(onnx: Path, out: Path, pixels: Pixels) -> None:
    """Write `out/model.tflite`, with ranges from pixels (N, H, W, C) of the network's size.

    Raises MissingExtraError, or BundleError for a damaged file or a layer that LiteRT cannot take or quantize.
    """
    where = str(onnx)
    model = package.load_model_from_string(read_model(onnx))
    said = {item.key: item.value for item in model.metadata_props}
    spec = from_metadata(said, where=where).preprocess
    mean, std = np.asarray(spec.mean), np.asarray(spec.std)
    ends = float((-mean / std).min()), float(((1.0 - mean) / std).max())
    images = np.ascontiguousarray(normalize(spec, pixels).transpose(0, 2, 3, 1))
    data = in_int8(converted(model, where=where), images, ends=ends, where=where)
    publish_file(out / DETAILS["model"], tflite.written(model, data, where=where))


def restamped(made: Path, onnx: Path, out: Path) -> None:
    """Write the artifact in the folder `made` again, integers as they are, with the metadata of another file of its
    network. Raises BundleError for a damaged file."""
    model = package.load_model_from_string(read_model(onnx))
    try:
        data = (made / DETAILS["model"]).read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read the model: {error.strerror}", where=str(made)) from error
    publish_file(out / DETAILS["model"], tflite.written(model, data, where=str(onnx)))


def details(graph: Path) -> dict[str, Any]:
    """See `tflite`."""
    return tflite.details(graph)
