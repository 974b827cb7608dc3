"""An exported graph as TFLite operators, by way of PyTorch and litert-torch.

The input is turned to channels last and so is the feature map at the end; the converter moves such turns through the
network until they meet and vanish. The batch is fixed to one image, because delegates of phones take no other.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sortal.core.errors import BundleError, MissingExtraError
from sortal.export.graph import INPUT

if TYPE_CHECKING:
    import onnx
    from torch import nn

SIGNATURE = "serving_default"
_PLANES = 4
"""Dimensions of a feature map that has height and width."""


def converted(model: onnx.ModelProto, *, where: str = "model") -> bytes:
    """A .tflite file of a graph that takes float32 (N, channels, height, width), or pixels with channels last.

    Outputs keep their names; `feature_map` is (1, height, width, D'). Raises MissingExtraError without litert-torch,
    BundleError for an operator that LiteRT does not know, with its layer.
    """
    from sortal.export.tflite.refusal import refused_layer
    from sortal.export.torch_graph import as_module

    litert_torch = _package()
    module, example = as_module(_in_single_precision(model), where=where).eval(), _example(model)
    with _quiet():
        try:
            made = litert_torch.convert(_with_channels_last(module, model), sample_kwargs={INPUT: example})
            data: bytes = bytes(made.model_content())
            _require_known(data)
        except Exception as error:  # converter, compiler and interpreter share no class of errors
            layer = refused_layer(module, _as_taken(example, model))
            raise BundleError(
                f"LiteRT cannot take the layer {layer}" if layer else "LiteRT's converter failed",
                where=where,
                received=str(error).strip().split("\n", 1)[0][:300] or type(error).__name__,
                hint="export onnx or openvino, which take every operator of the graph",
            ) from error
    return data


def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside its own dependencies
        try:
            import litert_torch
        except ImportError as error:
            raise MissingExtraError("litert-torch", "mobile") from error
    litert_torch.config.show_progress = False
    return litert_torch


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's notes to its developers, and without gradients."""
    import torch

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _in_single_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float64 (of a fused decision) is float32, the widest that LiteRT computes in."""
    import numpy as np
    from onnx import ModelProto, TensorProto, numpy_helper

    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.DOUBLE:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
                attribute.i = TensorProto.FLOAT
    return copy


def _takes_floats(model: onnx.ModelProto) -> bool:
    from onnx import TensorProto

    return bool(model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT)


def _example(model: onnx.ModelProto) -> Any:
    """One image as the .tflite file will take it."""
    import torch

    first, *others = (one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim)
    batch = first or 1
    if not _takes_floats(model):
        return torch.zeros(batch, *others, dtype=torch.uint8)
    channels, height, width = others
    return torch.zeros(batch, height, width, channels)


def _as_taken(image: Any, model: onnx.ModelProto) -> Any:
    """The .tflite file's input as the graph takes it."""
    return image.permute(0, 3, 1, 2) if _takes_floats(model) else image


def _with_channels_last(network: Any, model: onnx.ModelProto) -> nn.Module:
    import torch
    from torch import nn
    from torch.overrides import TorchFunctionMode

    class Counterparts(TorchFunctionMode):
        """The largest values by the operator that LiteRT has for them, not by sorting, which it cannot run."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.topk and args[2] in (-1, args[0].ndim - 1) and args[3]:
                return torch.ops.tfl.topk_v2(args[0], args[1])
            return func(*args, **(kwargs or {}))

    class ChannelsLast(nn.Module):
        """image -> outputs by name."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            with Counterparts():
                values = self.network(_as_taken(image, model))
            outputs = dict(zip(network.output_names, values, strict=True))
            if outputs["feature_map"].ndim == _PLANES:
                outputs["feature_map"] = outputs["feature_map"].permute(0, 2, 3, 1)
            return outputs

    return ChannelsLast().eval()


def _require_known(data: bytes) -> None:
    """Raises ValueError or RuntimeError where the interpreter does not know an operator that the converter wrote."""
    from ai_edge_litert.interpreter import Interpreter

    Interpreter(model_content=data).allocate_tensors()
