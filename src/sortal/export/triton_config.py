"""The text of a Triton `config.pbtxt`, from the graph that it is for. Field names are those of
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto

A free batch is left out of the dimensions, as Triton wants it; a batch that the graph fixes is part of them, and then
nothing is batched. One number an image has the shape [ ], which Triton writes as `dims: [ 1 ] reshape { shape: [ ] }`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sortal.export.fused_decision import PROBABILITIES

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

MAX_BATCH = 32
QUEUE_DELAY_US = 2000
"""How long a request waits for others to be answered with it."""
LABELS_FILE = "labels.txt"
ONNX = 'platform: "onnxruntime_onnx"\nbackend: "onnxruntime"'
TENSORRT = 'platform: "tensorrt_plan"\nbackend: "tensorrt"'

_TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 7: "TYPE_INT64", 9: "TYPE_BOOL", 10: "TYPE_FP16"}
"""Of `onnx.TensorProto` -> of Triton."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One model of an ensemble; `takes` and `gives` are its own tensors -> those of the ensemble."""

    model: str
    takes: dict[str, str]
    gives: dict[str, str]


def configuration(model: ModelProto, *, name: str, runs: str = ONNX, warm: bool = True) -> str:
    """For a model of that name; `warm` sends it zeros before it counts as ready, where its sizes are known."""
    taken = model.graph.input[0]
    free = not taken.type.tensor_type.shape.dim[0].dim_value
    blocks = [
        f'name: "{name}"',
        runs,
        f"max_batch_size: {MAX_BATCH if free else 0}",
        f"input [ {{ {_tensor(taken, free=free)} }} ]",
        *(f"output [ {{ {_output(value, free=free)} }} ]" for value in model.graph.output),
    ]
    if free:
        sizes = ", ".join(str(size) for size in (8, 16, MAX_BATCH))
        blocks.append(
            f"dynamic_batching {{ preferred_batch_size: [ {sizes} ] max_queue_delay_microseconds: {QUEUE_DELAY_US} }}"
        )
    if warm:
        blocks += [_warm_up(taken, batch, free=free) for batch in ((1, MAX_BATCH) if free else (1,))]
    return "\n".join(blocks) + "\n"


def ensemble(first: ModelProto, last: ModelProto, steps: Sequence[Step], *, name: str) -> str:
    """For an ensemble that takes what `first` takes and gives what `last` gives; both with a free batch."""
    blocks = [
        f'name: "{name}"',
        'platform: "ensemble"',
        f"max_batch_size: {MAX_BATCH}",
        f"input [ {{ {_tensor(first.graph.input[0], free=True)} }} ]",
        *(f"output [ {{ {_output(value, free=True, inside=False)} }} ]" for value in last.graph.output),
        "ensemble_scheduling {",
        *(f"  {_step(step)}" for step in steps),
        "}",
    ]
    return "\n".join(blocks) + "\n"


def _step(step: Step) -> str:
    takes = " ".join(f'input_map {{ key: "{own}" value: "{outer}" }}' for own, outer in step.takes.items())
    gives = " ".join(f'output_map {{ key: "{own}" value: "{outer}" }}' for own, outer in step.gives.items())
    return f'step [ {{ model_name: "{step.model}" model_version: -1 {takes} {gives} }} ]'


def _tensor(value: ValueInfoProto, *, free: bool, inside: bool = True) -> str:
    """`inside`: whether the tensor is a model's own, of which the shape inside can differ from that outside."""
    kind = value.type.tensor_type
    sizes = [one.dim_value or -1 for one in kind.shape.dim][1 if free else 0 :]
    shape = f"dims: [ {', '.join(map(str, sizes or [1]))} ]" + (
        " reshape { shape: [ ] }" if inside and not sizes else ""
    )
    return f'name: "{value.name}" data_type: {_TYPES[kind.elem_type]} {shape}'


def _output(value: ValueInfoProto, *, free: bool, inside: bool = True) -> str:
    labels = f' label_filename: "{LABELS_FILE}"' if value.name == PROBABILITIES else ""
    return _tensor(value, free=free, inside=inside) + labels


def _warm_up(value: ValueInfoProto, batch: int, *, free: bool) -> str:
    kind = value.type.tensor_type
    sizes = [one.dim_value for one in kind.shape.dim][1 if free else 0 :]
    given = f"data_type: {_TYPES[kind.elem_type]} dims: [ {', '.join(map(str, sizes))} ] zero_data: true"
    return (
        f'model_warmup [ {{ name: "batch of {batch}" batch_size: {batch} '
        f'inputs {{ key: "{value.name}" value {{ {given} }} }} }} ]'
    )
