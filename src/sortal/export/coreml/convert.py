"""From the exported graph to an ML program: an image in; class names, probabilities and the graph's outputs out.

    pixels -> 1 / (max std) pixels - mean / std -> the graph -> softmax(logits / temperature + bias) -> label

Normalization is part of the program because Core ML's own image type has one scale for all channels. What leads to the
feature map computes in float16, which is all that the Neural Engine knows; pooling, head, unknown score and
probabilities stay float32.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sortal.core.errors import BundleError, MissingExtraError
from sortal.export.graph import INPUT
from sortal.export.torch_graph.module import GraphModule
from sortal.export.torch_graph.program import Source, quiet, read_source
from sortal.runtime.metadata import ArtifactInfo, from_metadata

LABEL, PROBABILITIES, FEATURE_MAP = "label", "probabilities", "feature_map"
COMPUTE_UNITS = "sortal.compute_units"
UNITS = "ALL"
"""CPU, GPU and Neural Engine, as Core ML likes; an app may narrow it."""
LAYERS = ("conv", "linear", "matmul")
"""Operations of an ML program that multiply with a large stored tensor."""
_TARGET = "iOS15"
"""From iOS 16 on coremltools 9 makes outputs float16, and loses count of them where classes have names. Packages with
8-bit weights become iOS 16 when these are made."""
_FOLDS = {"common::fuse_linear_bias", "common::divide_to_multiply"}
"""Passes that turn stored numbers over, so that they could not be compared with the graph's any more."""
_COLORS = {1: "GRAYSCALE", 3: "RGB"}


class Classifying(nn.Module):
    """(1, channels, height, width) pixels, floats from 0 on -> the graph's outputs, then probabilities."""

    scale: Tensor
    offset: Tensor
    bias: Tensor

    def __init__(self, graph: GraphModule, info: ArtifactInfo):
        super().__init__()
        self.network = graph
        self.logits = graph.output_names.index("logits")
        self.temperature = float(info.decision.temperature)
        scale, offset = normalization(info)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("bias", torch.tensor(class_bias(info), dtype=torch.float32))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Probabilities come last: Core ML names classes by the last operation of a program."""
        outputs: tuple[Tensor, ...] = self.network(image * self.scale + self.offset)
        return *outputs, torch.softmax(outputs[self.logits] / self.temperature + self.bias, 1)


def normalization(info: ArtifactInfo) -> tuple[Any, Any]:
    """(scale, offset) by channel, float64: normalized = scale x pixel + offset."""
    spec = info.preprocess
    std = np.asarray(spec.std, np.float64)
    return 1.0 / (spec.maximum * std), -np.asarray(spec.mean, np.float64) / std


def class_bias(info: ArtifactInfo) -> Any:
    """What is added to the logits behind the temperature, (C,) float64."""
    bias = info.decision.bias
    return np.zeros(len(info.labels)) if bias is None else np.asarray(bias, np.float64)


def colors_of(info: ArtifactInfo, where: str) -> str:
    """Core ML's name of the order of channels. Raises BundleError for what its image type does not have."""
    spec = info.preprocess
    if spec.depth != 8 or spec.channels not in _COLORS:
        raise BundleError(
            "Core ML's image type has 8 bits and one or three channels",
            where=where,
            received=f"{spec.channels} channels of {spec.depth} bits",
            hint="export onnx or executorch, which take normalized float32",
        )
    return _COLORS[spec.channels]


def write_package(onnx: Path, target: Path, *, compress: Callable[[Any], Any] | None = None) -> None:
    """Write an `.mlpackage` of an exported, stamped file; `compress` may change the model before it is named.

    Raises MissingExtraError without coremltools; BundleError for a damaged file, an operator that PyTorch or Core ML
    lacks, and an input that Core ML's image type does not have.
    """
    source = read_source(onnx)
    info = from_metadata(source.metadata, where=str(onnx))
    colors = colors_of(info, str(onnx))
    with coremltools_for(source.where) as ct:
        _write(ct, source, info, colors, target, compress)


@contextmanager
def coremltools_for(where: str) -> Iterator[Any]:
    """The package, quiet. What it raises becomes a BundleError about `where`; MissingExtraError where it is absent."""
    with quiet():
        try:
            import coremltools
        except ImportError as error:
            raise MissingExtraError("coremltools", "mobile") from error
        try:
            yield coremltools
        except (
            ValueError,
            TypeError,
            RuntimeError,
            NotImplementedError,
            KeyError,
            IndexError,
            AttributeError,
            AssertionError,
        ) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise BundleError(
                f"Core ML's converter cannot take the graph: {reason}",
                where=where,
                hint="export to onnx-uint8 or tflite, which have more operators",
            ) from error
        finally:
            gc.collect()  # it leaves temporary folders to the collector, and warns where that is not silenced


def leading_to(output: Any) -> set[str]:
    """Names of the operations of an MIL program whose results reach the variable `output`."""
    found, left = set[str](), [output]
    while left:
        operation = left.pop().op
        if operation is None or operation.name in found:
            continue
        found.add(operation.name)
        for given in operation.inputs.values():
            left += given if isinstance(given, list | tuple) else [given]
    return found


def _write(
    ct: Any,
    source: Source,
    info: ArtifactInfo,
    colors: str,
    target: Path,
    compress: Callable[[Any], Any] | None,
) -> None:
    model = _converted(ct, source, info, colors)
    if compress is not None:
        model = compress(model)
    spec = model.get_spec()
    _name_outputs(ct, spec, source.module.output_names)
    _say(spec, source, info)
    ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True).save(str(target))


def _converted(ct: Any, source: Source, info: ArtifactInfo, colors: str) -> Any:
    shape = (1, *(size or 1 for size in source.shape[1:]))
    module = Classifying(source.module, info).eval()
    with torch.no_grad():
        traced = torch.jit.trace(module, torch.zeros(shape), check_trace=False)  # type: ignore[no-untyped-call]
    passes = ct.PassPipeline()
    passes.remove_passes(_FOLDS)
    return ct.convert(
        traced,
        inputs=[ct.ImageType(name=INPUT, shape=shape, color_layout=getattr(ct.colorlayout, colors))],
        classifier_config=ct.ClassifierConfig(list(info.labels.names), predicted_feature_name=LABEL),
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, _TARGET),
        compute_precision=ct.transform.FP16ComputePrecision(op_selector=_to_features(source.module.output_names)),
        compute_units=getattr(ct.ComputeUnit, UNITS),
        pass_pipeline=passes,
        skip_model_load=True,
    )


def _to_features(outputs: Sequence[str]) -> Callable[[Any], bool]:
    """Whether an operation leads to the feature map; settled once, before any operation is changed."""
    place = outputs.index(FEATURE_MAP)
    chosen: set[str] | None = None

    def select(operation: Any) -> bool:
        nonlocal chosen
        if chosen is None:
            chosen = leading_to(operation.enclosing_block.outputs[place])
        return operation.name in chosen

    return select


def _name_outputs(ct: Any, spec: Any, names: Sequence[str]) -> None:
    """By position: the converter keeps the order of outputs and forgets their names."""
    wanted = (LABEL, PROBABILITIES, *names)
    present = [output.name for output in spec.description.output]
    if len(present) != len(wanted):
        raise ValueError(f"{len(wanted)} outputs became {len(present)}")
    for old, new in zip(present, wanted, strict=True):
        if old != new:
            ct.utils.rename_feature(spec, old, new, rename_inputs=False, rename_outputs=True)


def _say(spec: Any, source: Source, info: ArtifactInfo) -> None:
    """Sortal's metadata under its own keys, and what Xcode shows."""
    said = spec.description.metadata
    said.userDefined.update(source.metadata | {COMPUTE_UNITS: UNITS})
    said.shortDescription = f"Image classifier of {len(info.labels)} classes, made by Sortal"
    said.license = info.licence
