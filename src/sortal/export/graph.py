"""From a live module to one ONNX file: input `image`, outputs `logits`, `embedding`, `feature_map`, any batch size.

This is the narrow waist: every other artifact is made from the file written here. The graph starts at normalized
float32 input; preprocessing stays outside, described by the metadata. Whether the file answers as the module does is
`export.parity`'s question.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sortal.core.errors import InputError, InternalError
from sortal.core.preprocess import PreprocessSpec
from sortal.core.publish import publish_file
from sortal.export.head import name_head
from sortal.runtime.onnx_file import MAX_BYTES

if TYPE_CHECKING:
    import onnx
    from torch import nn

OPSET = 20
INPUT = "image"
OUTPUTS = ("logits", "embedding", "feature_map")
BATCH = "batch"

_IN_PLACE = "inplace"
_EXAMPLE_BATCH = 2
"""At least 2: torch.export takes an example of size 1 for a promise that the size is always 1."""
_FOLDED_NUMBERS = 2**22
"""What depends on no image is computed once, up to that many numbers. The exporter itself stops at 8,192 and leaves the
resize of a ViT's position embedding (1,369 × 1,024 numbers in a large one) and the masks of Swin's windows in place.
"""


def export_onnx(
    network: nn.Module, spec: PreprocessSpec, out_file: Path, *, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write `network`, in evaluation mode, as one ONNX file without external data; the module is left as it was.

    `network` maps (N, channels, height, width) float32 to (logits, embedding, feature_map). Where its head is one
    linear layer, the head's tensors are called `head.weight` (C, D) and `head.bias` (C,), see `export.head.set_head`.
    Raises InputError for a network larger than 2 GB, MachineError when the disk refuses.
    """
    with _ready(network):
        model = _translate(network, spec)
    _tidy(model)
    name_head(model)
    set_metadata(model, metadata or {})
    save_model(model, out_file)
    return out_file


def save_model(model: onnx.ModelProto, out_file: Path) -> None:
    """Check a model against the ONNX standard and put it on disk as a whole."""
    import onnx

    if model.ByteSize() > MAX_BYTES:
        raise InputError("an ONNX file holds at most 2 GB", received=f"{model.ByteSize():,} bytes")
    data = model.SerializeToString()
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        raise InternalError(f"the exported graph breaks the ONNX standard: {error}") from error
    publish_file(out_file, data)


def set_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Set entries of the model's metadata in place; entries under other keys stay."""
    kept = [item for item in model.metadata_props if item.key not in metadata]
    entries = {item.key: item.value for item in kept} | dict(metadata)
    del model.metadata_props[:]
    for key, value in sorted(entries.items()):
        model.metadata_props.add(key=key, value=value)


def _translate(network: nn.Module, spec: PreprocessSpec) -> onnx.ModelProto:
    import torch
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    parameter = next(network.parameters(), torch.empty(0))
    example = torch.zeros(_EXAMPLE_BATCH, spec.channels, *spec.size, device=parameter.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing a user could act on
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise InternalError("torch.onnx.export returned nothing")
    fold_constants(program.model, input_size_limit=_FOLDED_NUMBERS, output_size_limit=_FOLDED_NUMBERS)
    remove_unused_nodes(program.model)
    return program.model_proto


@contextmanager
def _ready(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients and without in-place activations, all put back afterwards.

    In-place activations cost the exporter a third of its time (MobileNetV2: 5.9 s with, 3.9 s without) and change
    nothing in the graph.
    """
    import torch

    training = [(module, module.training) for module in network.modules()]
    in_place = [module for module in network.modules() if getattr(module, _IN_PLACE, False) is True]
    network.eval()
    for module in in_place:
        setattr(module, _IN_PLACE, False)
    try:
        with torch.no_grad():
            yield
    finally:
        for module in in_place:
            setattr(module, _IN_PLACE, True)
        for module, was_training in training:
            module.training = was_training


def _tidy(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes (they hold paths and stack traces of this machine) and name the batch dimension."""
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    values = [*graph.input, *graph.output, *graph.value_info]
    for item in [*graph.node, *values, *graph.initializer, graph]:
        item.doc_string = ""
        del item.metadata_props[:]
    for value in values:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == symbol:
                dimension.dim_param = BATCH
    del graph.value_info[:]
    del model.metadata_props[:]
    model.producer_name, graph.name = "sortal", "classifier"
