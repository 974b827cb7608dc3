"""Biases that make up for rounded weights: what rounding adds to a layer's output on average is taken off its bias.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section 4.2, with the means
of the inputs as calibration images give them. Borders, where padding stands in for input, are left out of account.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Floats = NDArray[np.float32]


def corrected(
    model: onnx.ModelProto, means: Mapping[str, Floats], chosen: Collection[str], *, narrow: bool
) -> onnx.ModelProto:
    """A copy whose layers `chosen` have biases for weights of 8 (or 7) bits; `means` (C,) are of their inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    uses = [name for node in copy.graph.node for name in node.input]
    for node in copy.graph.node:
        whole = len(node.input) == 3 and node.input[1] in stored and node.input[2] in stored
        if node.name not in chosen or not whole or node.input[0] not in means or uses.count(node.input[2]) > 1:
            continue
        weight = numpy_helper.to_array(stored[node.input[1]])
        bias = numpy_helper.to_array(stored[node.input[2]])
        if node.op_type == "Gemm" and not any(item.name == "transB" and item.i for item in node.attribute):
            continue
        shift = mean_shift(weight, means[node.input[0]], narrow=narrow)
        stored[node.input[2]].CopyFrom(numpy_helper.from_array((bias - shift).astype(np.float32), node.input[2]))
    return copy


def mean_shift(weight: Floats, mean: Floats, *, narrow: bool) -> Floats:
    """(O,) what rounding `weight` (O, I, ...) by channel adds to outputs on average; `mean` (groups * I,) of inputs."""
    flat = weight.reshape(len(weight), weight.shape[1], -1)
    largest = np.maximum(np.abs(flat).max(axis=(1, 2), keepdims=True), 1e-12)
    scale = largest / (64 if narrow else 127)
    error = (np.rint(flat / scale) * scale - flat).sum(axis=2)
    groups = len(mean) // weight.shape[1]
    inputs = mean.reshape(groups, -1)[np.arange(len(weight)) * groups // len(weight)]
    shift: Floats = (error * inputs).sum(axis=1).astype(np.float32)
    return shift
