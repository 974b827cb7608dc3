"""A model repository for NVIDIA Triton Inference Server: the graph that takes 8-bit pixels, with its configuration.

    models/classifier/config.pbtxt     dynamic batching, warm-up
    models/classifier/labels.txt       class names, which the server joins to `probabilities` on request
    models/classifier/1/model.onnx     as the artifact `onnx-uint8`

Normalization and calibration are in the graph, so no ensemble with a preprocessing step is needed: clients send resized
pixels (height, width, channels). Sortal writes the folder and checks the graph; it does not run the server. Fields:
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

from pathlib import Path

import onnx as package
from onnx import TensorProto, ValueInfoProto

from sortal.export.artifacts.onnx_uint8 import write_fused
from sortal.export.fused import PROBABILITIES
from sortal.runtime.metadata import from_metadata
from sortal.runtime.onnx_file import read_model

NAME = "classifier"
"""What clients call the model."""
MAX_BATCH = 32
QUEUE_DELAY_US = 2000
"""How long a request waits for others to be answered with it."""

DETAILS = {
    "format": "triton-model-repository",
    "precision": "float32",
    "model": f"models/{NAME}/1/model.onnx",
    "engine": "onnxruntime",
    "input": "uint8 NHWC",
    "for": "Triton",
    "command": "tritonserver --model-repository=models",
}

_TYPES = {int(TensorProto.UINT8): "TYPE_UINT8", int(TensorProto.FLOAT): "TYPE_FP32"}


def convert(onnx: Path, out: Path) -> None:
    """Write `out/models/`. Raises BundleError for a damaged file, or one whose preprocessing keeps 16 bits."""
    target = out / DETAILS["model"]
    target.parent.mkdir(parents=True)
    write_fused(onnx, target, layout="NHWC")
    model = package.load_model_from_string(read_model(target))
    info = from_metadata({item.key: item.value for item in model.metadata_props}, where=str(onnx))
    folder = target.parent.parent
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in info.labels.names), encoding="utf-8")
    (folder / "config.pbtxt").write_text(configuration(model), encoding="utf-8")


def configuration(model: package.ModelProto) -> str:
    """The text of `config.pbtxt`. A batch that the graph fixes is part of the shapes; then nothing is batched."""
    taken = model.graph.input[0]
    free = not taken.type.tensor_type.shape.dim[0].dim_value
    blocks = [
        f'name: "{NAME}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH if free else 0}",
        f"input [ {{ {_tensor(taken, free=free)} }} ]",
        *(f"output [ {{ {_output(value, free=free)} }} ]" for value in model.graph.output),
    ]
    if free:
        sizes = ", ".join(str(size) for size in (8, 16, MAX_BATCH))
        blocks.append(
            f"dynamic_batching {{ preferred_batch_size: [ {sizes} ] max_queue_delay_microseconds: {QUEUE_DELAY_US} }}"
        )
    blocks += [_warm_up(taken, batch, free=free) for batch in ((1, MAX_BATCH) if free else (1,))]
    return "\n".join(blocks) + "\n"


def _tensor(value: ValueInfoProto, *, free: bool) -> str:
    """Name, type and dimensions; without the batch where that is free. A single number an image has shape [ ]."""
    kind = value.type.tensor_type
    sizes = [one.dim_value or -1 for one in kind.shape.dim][1 if free else 0 :]
    shape = f"dims: [ {', '.join(map(str, sizes or [1]))} ]" + ("" if sizes else " reshape { shape: [ ] }")
    return f'name: "{value.name}" data_type: {_TYPES[kind.elem_type]} {shape}'


def _output(value: ValueInfoProto, *, free: bool) -> str:
    labels = ' label_filename: "labels.txt"' if value.name == PROBABILITIES else ""
    return _tensor(value, free=free) + labels


def _warm_up(value: ValueInfoProto, batch: int, *, free: bool) -> str:
    sizes = [one.dim_value for one in value.type.tensor_type.shape.dim][1 if free else 0 :]
    given = f"data_type: TYPE_UINT8 dims: [ {', '.join(map(str, sizes))} ] zero_data: true"
    return (
        f'model_warmup [ {{ name: "batch of {batch}" batch_size: {batch} '
        f'inputs {{ key: "{value.name}" value {{ {given} }} }} }} ]'
    )
