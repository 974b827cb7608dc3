"""An ONNX file in int8 with QuantizeLinear and DequantizeLinear nodes, float32 at its input and outputs.

`sortal compress` makes it: integers cost accuracy, which takes a search, a budget and a judge. Here is what the rest of
Sortal has to know of it: how `sortal calibrate` carries it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx as package

from sortal.core.errors import InputError
from sortal.core.preprocess import Pixels
from sortal.export.graph import save_model, set_metadata
from sortal.runtime.onnx_file import read_model

DETAILS: dict[str, Any] = {
    "format": "onnx",
    "precision": "int8",
    "model": "model.onnx",
    "engine": "onnxruntime",
    "calibrated": True,
    "epsilon": 0.1,
}


def calibrated(onnx: Path, out: Path, pixels: Pixels) -> None:
    """It is not made by itself. Raises InputError that names the command."""
    del out, pixels
    raise InputError(
        "int8 is made within a budget of accuracy, by another command",
        where=str(onnx),
        hint="sortal compress RUN compress.int8=true",
    )


def restamped(made: Path, onnx: Path, out: Path) -> None:
    """Write the artifact in the folder `made` again, integers as they are, with the metadata of another file of its
    network. Raises BundleError for a damaged file."""
    other = package.load_model_from_string(read_model(onnx))
    stamped(made / DETAILS["model"], {item.key: item.value for item in other.metadata_props}, out)


def stamped(model: Path, said: Mapping[str, str], out: Path) -> None:
    """Write the file `model` as `out/model.onnx` with this metadata and no other."""
    graph = package.load_model_from_string(read_model(model))
    del graph.metadata_props[:]
    set_metadata(graph, said)
    save_model(graph, out / "model.onnx")
