"""Operators with weights or windows: convolution, matrix products, pooling, normalization.

Shapes: N batch, C channels, spatial sizes after them, as in ONNX and PyTorch alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sortal.core.errors import BundleError
from sortal.export.torch_graph.arithmetic import Attributes
from sortal.export.torch_graph.values import Numbers, Value, scalar, tensor

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Value | None = None) -> Tensor:
    """Conv."""
    sizes, rank = list(weight.shape[2:]), weight.ndim - 2
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    before, after = _padding(attributes, x, sizes, strides, dilations)
    if before != after:
        x, before = F.pad(x, _around(before, after)), [0] * rank
    added = None if bias is None else tensor(bias, x)
    convolved: Tensor = _CONV[rank](x, weight, added, strides, before, dilations, attributes.get("group", 1))
    return convolved


def conv_transpose(attributes: Attributes, x: Tensor, weight: Tensor, bias: Value | None = None) -> Tensor:
    """ConvTranspose of images, padded alike on both sides."""
    rank = weight.ndim - 2
    pads = list(attributes.get("pads", [0] * 2 * rank))
    if rank != 2 or attributes.get("auto_pad", "NOTSET") != "NOTSET" or pads[:rank] != pads[rank:]:
        raise BundleError("only transposed convolutions of images with equal padding are known here")
    return F.conv_transpose2d(
        x,
        weight,
        None if bias is None else tensor(bias, x),
        stride=list(attributes.get("strides", [1, 1])),
        padding=pads[:rank],
        output_padding=list(attributes.get("output_padding", [0, 0])),
        groups=attributes.get("group", 1),
        dilation=list(attributes.get("dilations", [1, 1])),
    )


def gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Value | None = None) -> Tensor:
    """Gemm: alpha * A B + beta * C."""
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    left = a.t() if attributes.get("transA", 0) else a
    rows = b if attributes.get("transB", 0) else b.t()
    added = None if c is None else tensor(c, a)
    if alpha == 1.0 and beta == 1.0 and (added is None or added.ndim == 1):
        return F.linear(left, rows, added)
    product: Tensor = F.linear(left, rows) * alpha
    return product if added is None else product + added * beta


def matmul(attributes: Attributes, a: Value, b: Value) -> Tensor:
    """MatMul."""
    return torch.matmul(tensor(a), tensor(b))


def einsum(attributes: Attributes, *operands: Tensor) -> Tensor:
    """Einsum."""
    result: Tensor = torch.einsum(attributes["equation"], *operands)
    return result


def max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """MaxPool, without the places."""
    rank, sizes = x.ndim - 2, list(attributes["kernel_shape"])
    strides = list(attributes.get("strides", [1] * rank))
    dilations = list(attributes.get("dilations", [1] * rank))
    before, after = _padding(attributes, x, sizes, strides, dilations)
    if before != after or any(2 * pad > size for pad, size in zip(before, sizes, strict=True)):
        x, before = F.pad(x, _around(before, after), value=float("-inf")), [0] * rank
    pooled: Tensor = _MAX_POOL[rank](x, sizes, strides, before, dilations, bool(attributes.get("ceil_mode", 0)))
    return pooled


def average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """AveragePool."""
    rank, sizes = x.ndim - 2, list(attributes["kernel_shape"])
    strides = list(attributes.get("strides", [1] * rank))
    if any(size != 1 for size in attributes.get("dilations", ())):
        raise BundleError("dilated mean pooling is not known here")
    before, after = _padding(attributes, x, sizes, strides, [1] * rank)
    up, counted = bool(attributes.get("ceil_mode", 0)), bool(attributes.get("count_include_pad", 0))
    pool = _AVERAGE_POOL[rank]
    if before == after and all(2 * pad <= size for pad, size in zip(before, sizes, strict=True)):
        pooled: Tensor = pool(x, sizes, strides, before, up, counted)
        return pooled
    around = _around(before, after)
    summed: Tensor = pool(F.pad(x, around), sizes, strides, [0] * rank, up)
    if counted:
        return summed
    share: Tensor = pool(F.pad(torch.ones_like(x[:1, :1]), around), sizes, strides, [0] * rank, up)
    return summed / share


def global_average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """GlobalAveragePool."""
    return torch.mean(x, list(range(2, x.ndim)), keepdim=True)


def global_max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """GlobalMaxPool."""
    return torch.amax(x, list(range(2, x.ndim)), keepdim=True)


def batch_norm(attributes: Attributes, x: Tensor, scale: Value, bias: Value, mean: Value, variance: Value) -> Tensor:
    """BatchNormalization with stored statistics."""
    if attributes.get("training_mode", 0):
        raise BundleError("it measures statistics while it runs, so it is not a graph for inference")
    middle, spread, factor, offset = (tensor(one, x) for one in (mean, variance, scale, bias))
    epsilon = attributes.get("epsilon", 1e-5)
    if middle.requires_grad or spread.requires_grad:  # computed from weights, as standardized convolutions do
        shape = [1, -1] + [1] * (x.ndim - 2)
        factor = factor * torch.rsqrt(spread + epsilon)
        return (x - middle.view(shape)) * factor.view(shape) + offset.view(shape)
    return F.batch_norm(x, middle, spread, factor, offset, training=False, eps=epsilon)


def layer_norm(attributes: Attributes, x: Tensor, scale: Value, bias: Value | None = None) -> Tensor:
    """LayerNormalization, without the statistics."""
    shape = list(x.shape[attributes.get("axis", -1) :])
    factor, offset = tensor(scale, x), None if bias is None else tensor(bias, x)
    epsilon = attributes.get("epsilon", 1e-5)
    if list(factor.shape) == shape:
        return F.layer_norm(x, shape, factor, offset, epsilon)
    scaled = F.layer_norm(x, shape, None, None, epsilon) * factor
    return scaled if offset is None else scaled + offset


def rms_norm(attributes: Attributes, x: Tensor, scale: Value) -> Tensor:
    """RMSNormalization."""
    shape = list(x.shape[attributes.get("axis", -1) :])
    return F.rms_norm(x, shape, None, attributes.get("epsilon", 1e-5)) * tensor(scale, x)


def instance_norm(attributes: Attributes, x: Tensor, scale: Value, bias: Value) -> Tensor:
    """InstanceNormalization."""
    return F.instance_norm(x, None, None, tensor(scale, x), tensor(bias, x), eps=attributes.get("epsilon", 1e-5))


def group_norm(attributes: Attributes, x: Tensor, scale: Value, bias: Value) -> Tensor:
    """GroupNormalization; scale and bias by channel, or by group as in operation set 18."""
    groups = attributes["num_groups"]
    factor, offset = (tensor(one, x) for one in (scale, bias))
    if factor.shape[0] != x.shape[1]:
        each = x.shape[1] // groups
        factor, offset = factor.repeat_interleave(each), offset.repeat_interleave(each)
    return F.group_norm(x, groups, factor, offset, attributes.get("epsilon", 1e-5))


def local_response_norm(attributes: Attributes, x: Tensor) -> Tensor:
    """LRN."""
    alpha, beta, k = (attributes.get(name, usual) for name, usual in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return F.local_response_norm(x, attributes["size"], alpha, beta, k)


def pad(attributes: Attributes, x: Tensor, pads: Value, fill: Value | None = None, axes: Value | None = None) -> Tensor:
    """Pad with a constant, the edge or a reflection."""
    mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}.get(attributes.get("mode", "constant"))
    if mode is None or not isinstance(pads, Numbers):
        raise BundleError("this padding is not known here", received=str(attributes.get("mode")))
    chosen = [axis % x.ndim for axis in axes.values] if isinstance(axes, Numbers) else list(range(x.ndim))
    half = len(pads.values) // 2
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = pads.values[place], pads.values[place + half]
    around = _around(before, after)
    if mode == "constant":
        return F.pad(x, around, value=float(scalar(fill) or 0.0))
    return F.pad(x, around[: 2 * (x.ndim - 2)], mode=mode)


def _padding(
    attributes: Attributes, x: Tensor, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Before and after each spatial axis."""
    rule = attributes.get("auto_pad", "NOTSET")
    rank = len(sizes)
    if rule in ("NOTSET", "VALID"):
        pads = list(attributes.get("pads", [0] * 2 * rank)) if rule == "NOTSET" else [0] * 2 * rank
        return pads[:rank], pads[rank:]
    totals = []
    for given, size, stride, dilation in zip(x.shape[2:], sizes, strides, dilations, strict=True):
        covered = (-(-given // stride) - 1) * stride + (size - 1) * dilation + 1
        totals.append(max(covered - given, 0))
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (less, more) if rule == "SAME_UPPER" else (more, less)


def _around(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """As `F.pad` takes it: from the last axis to the first."""
    return [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
