"""The table of operators: ONNX's name, and the function that does it with PyTorch.

A function takes the node's attributes and its inputs in ONNX's order (None where one is left out), and returns a value
or several. To add an operator, write it beside its kin and name it here; `tests/numeric/test_torch_operators.py`
holds each against ONNX Runtime.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sortal.export.torch_graph import arithmetic, arrange, layers, reduce, rounding
from sortal.export.torch_graph.arithmetic import Operator, binary, several, unary
from sortal.export.torch_graph.reduce import reduction


def _both(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Any], Tensor]:
    """Truths have no kernels for scalars."""
    return lambda a, b: function(a, b if isinstance(b, Tensor) else torch.tensor(b, device=a.device))


_VALUE_BY_VALUE: dict[str, Operator] = {
    "Abs": unary(torch.abs),
    "Add": binary(torch.add, operator.add),
    "And": binary(_both(torch.logical_and), operator.and_),
    "Cast": arithmetic.cast,
    "CastLike": arrange.cast_like,
    "Ceil": unary(torch.ceil),
    "Clip": arithmetic.clip,
    "Cos": unary(torch.cos),
    "Div": binary(arithmetic.divide, lambda a, b: a / b if isinstance(a, float) else a // b),
    "Dropout": arithmetic.identity,
    "Elu": arithmetic.elu,
    "Equal": binary(torch.eq, operator.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Floor": unary(torch.floor),
    "Gelu": arithmetic.gelu,
    "Greater": binary(torch.gt, operator.gt),
    "GreaterOrEqual": binary(torch.ge, operator.ge),
    "HardSigmoid": arithmetic.hard_sigmoid,
    "HardSwish": unary(F.hardswish),
    "Identity": arithmetic.identity,
    "LeakyRelu": arithmetic.leaky_relu,
    "Less": binary(torch.lt, operator.lt),
    "LessOrEqual": binary(torch.le, operator.le),
    "Log": unary(torch.log),
    "LogSoftmax": arithmetic.log_softmax,
    "Max": several(arithmetic.maximum),
    "Min": several(arithmetic.minimum),
    "Mish": unary(F.mish),
    "Mod": arithmetic.modulo,
    "Mul": binary(torch.mul, operator.mul),
    "Neg": unary(torch.neg),
    "Not": unary(torch.logical_not),
    "OneHot": arithmetic.one_hot,
    "Or": binary(_both(torch.logical_or), operator.or_),
    "Pow": binary(torch.pow, operator.pow),
    "PRelu": arithmetic.prelu,
    "Reciprocal": unary(torch.reciprocal),
    "Relu": unary(F.relu),
    "Round": unary(torch.round),
    "Selu": unary(F.selu),
    "Sigmoid": unary(torch.sigmoid),
    "Sign": unary(torch.sign),
    "Sin": unary(torch.sin),
    "Softmax": arithmetic.softmax,
    "Softplus": unary(F.softplus),
    "Softsign": unary(F.softsign),
    "Sqrt": unary(torch.sqrt),
    "Sub": binary(torch.sub, operator.sub),
    "Sum": several(torch.add),
    "Tanh": unary(torch.tanh),
    "Where": arithmetic.where,
}

_ALONG_AXES: dict[str, Operator] = {
    "ArgMax": reduce.arg_max,
    "ArgMin": reduce.arg_min,
    "CumSum": reduce.cumulated,
    "LpNormalization": reduce.lp_normalized,
    "ReduceL1": reduction(lambda x, axes, keep: torch.sum(torch.abs(x), axes, keepdim=keep)),
    "ReduceL2": reduction(reduce.euclidean),
    "ReduceLogSumExp": reduction(torch.logsumexp),
    "ReduceMax": reduction(torch.amax, max),
    "ReduceMean": reduction(lambda x, axes, keep: torch.mean(x, axes, keepdim=keep)),
    "ReduceMin": reduction(torch.amin, min),
    "ReduceProd": reduction(reduce.product, math.prod),
    "ReduceSum": reduction(lambda x, axes, keep: torch.sum(x, axes, keepdim=keep), sum),
    "ReduceSumSquare": reduction(lambda x, axes, keep: torch.sum(x * x, axes, keepdim=keep)),
    "TopK": reduce.top_k,
}

_LAYERS: dict[str, Operator] = {
    "AveragePool": layers.average_pool,
    "BatchNormalization": layers.batch_norm,
    "Conv": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "Einsum": layers.einsum,
    "Gemm": layers.gemm,
    "GlobalAveragePool": layers.global_average_pool,
    "GlobalMaxPool": layers.global_max_pool,
    "GroupNormalization": layers.group_norm,
    "InstanceNormalization": layers.instance_norm,
    "LRN": layers.local_response_norm,
    "LayerNormalization": layers.layer_norm,
    "MatMul": layers.matmul,
    "MaxPool": layers.max_pool,
    "Pad": layers.pad,
    "RMSNormalization": layers.rms_norm,
}

_ARRANGE: dict[str, Operator] = {
    "Concat": arrange.concat,
    "ConstantOfShape": arrange.constant_of_shape,
    "DepthToSpace": arrange.depth_to_space,
    "Expand": arrange.expand,
    "Flatten": arrange.flatten,
    "Gather": arrange.gather,
    "GatherElements": arrange.gather_elements,
    "Range": arrange.range_,
    "Reshape": arrange.reshape,
    "Shape": arrange.shape,
    "Size": arrange.size,
    "Slice": arrange.slice_,
    "SpaceToDepth": arrange.space_to_depth,
    "Split": arrange.split,
    "Squeeze": arrange.squeeze,
    "Tile": arrange.tile,
    "Transpose": arrange.transpose,
    "Trilu": arrange.trilu,
    "Unsqueeze": arrange.unsqueeze,
}

OPERATORS: Mapping[str, Operator] = {**_VALUE_BY_VALUE, **_ALONG_AXES, **_LAYERS, **_ARRANGE, **rounding.OPERATORS}
"""`Constant` is missing because constants are read with the graph."""
