"""An ExecuTorch program in int8: layers that lead to the feature map, weights by channel, activations by ranges of
training images; pooling, head and unknown score stay in float32.

Quantized by the XNNPACK quantizer of ExecuTorch through torchao's PT2E steps, without correction of biases or a search
for layers that do not bear it: networks made for int8 keep their accuracy, others may not, and are refused by the gate.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node

from sortal.core.errors import BundleError, MissingExtraError
from sortal.core.preprocess import Pixels
from sortal.export.artifacts.executorch import DETAILS as OF_FLOATS
from sortal.export.artifacts.executorch import details, write_lowered
from sortal.export.torch_graph.program import Source, exported, quiet, read_source
from sortal.runtime.metadata import from_metadata
from sortal.runtime.network_input import network_input

__all__ = ["DETAILS", "calibrated", "details"]

DETAILS: dict[str, Any] = {**OF_FLOATS, "precision": "int8", "epsilon": 0.25, "calibrated": True}
"""Epsilon is an allowance that was not yet measured on a network; `tflite-int8` has a similar one."""


def calibrated(onnx: Path, out: Path, pixels: Pixels) -> None:
    """Write `out/model.pte` with ranges taken from prepared pixels (N, height, width, channels). Raises as
    `executorch` does."""
    source = read_source(onnx)
    spec = from_metadata(source.metadata, where=source.where).preprocess
    batch = network_input(spec, pixels, source.metadata)
    module: Any = _quantized(source, batch)
    program = exported(replace(source, module=module), batch=1)
    write_lowered(source, program, out / str(DETAILS["model"]))


def _quantized(source: Source, batch: np.ndarray[Any, Any]) -> GraphModule:
    try:
        with quiet():
            from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
                XNNPACKQuantizer,
                get_symmetric_quantization_config,
            )
            from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    except ImportError as error:
        raise MissingExtraError("executorch", "executorch") from error
    graph = exported(source, batch=1).module()
    chosen = leading_to(graph, source.module.output_names.index("feature_map"))
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    quantizer.set_filter_function(lambda node: node.name in chosen)
    with quiet(), torch.no_grad():
        prepared = prepare_pt2e(graph, quantizer)
        for image in batch:
            prepared(torch.from_numpy(image[None]))
        quantized: GraphModule = convert_pt2e(prepared)
    if not any("quantize_per_channel" in str(node.target) for node in quantized.graph.nodes):
        raise BundleError("no layer could be quantized", where=source.where, hint="export to executorch")
    return quantized


def leading_to(graph: GraphModule, place: int) -> frozenset[str]:
    """Names of the nodes that the output at `place` is computed from."""
    end = next(node for node in graph.graph.nodes if node.op == "output")
    waiting: list[Node] = [end.args[0][place]]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(node.all_input_nodes)
    return frozenset(node.name for node in seen)
