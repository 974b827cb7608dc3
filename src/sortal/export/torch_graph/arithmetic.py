"""Operators that work value by value: sums, products, comparisons and activations.

Every function takes the node's attributes and its inputs in ONNX's order and names the operator it stands for:
https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sortal.core.errors import BundleError
from sortal.export.torch_graph.values import Numbers, Value, scalar, tensor, torch_dtype

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]


def unary(function: Callable[[Tensor], Tensor]) -> Operator:
    """An operator of one tensor without attributes."""

    def run(attributes: Attributes, x: Value) -> Tensor:
        return function(tensor(x))

    return run


def binary(function: Callable[[Any, Any], Any], on_numbers: Callable[[Any, Any], Any]) -> Operator:
    """An operator of two values: of tensors, or of two lists of numbers, which stay numbers."""

    def run(attributes: Attributes, a: Value, b: Value) -> Value:
        if isinstance(a, Numbers) and isinstance(b, Numbers):
            return _of_numbers(on_numbers, a, b)
        result: Value = function(*_operands(a, b))
        return result

    return run


def several(function: Callable[[Any, Any], Tensor]) -> Operator:
    """An operator of one or more tensors, applied from left to right."""

    def run(attributes: Attributes, first: Value, *others: Value) -> Tensor:
        result: Value = first
        for other in others:
            result = function(*_operands(result, other))
        return tensor(result)

    return run


def _of_numbers(function: Callable[[Any, Any], Any], a: Numbers, b: Numbers) -> Numbers:
    count = max(len(a.values), len(b.values))
    left, right = (one.values * count if len(one.values) == 1 else one.values for one in (a, b))
    results = [function(one, other) for one, other in zip(left, right, strict=True)]
    kind = torch.bool if results and isinstance(results[0], bool) else a.dtype
    source = a if a.device is not None else b
    return source.like(results, single=a.single and b.single, dtype=kind)


def _operands(a: Value, b: Value) -> tuple[Any, Any]:
    """A known single number stays one: backends have kernels for scalars, and it needs no place in the file."""
    if isinstance(a, Tensor) and (number := scalar(b)) is not None and a.ndim:
        return a, number
    if isinstance(b, Tensor):
        return tensor(a, b), b
    return tensor(a), tensor(b, tensor(a))


def divide(a: Any, b: Any) -> Tensor:
    """Div: of integers, towards zero."""
    whole = not (a.is_floating_point() or (isinstance(b, Tensor) and b.is_floating_point()) or isinstance(b, float))
    return torch.div(a, b, rounding_mode="trunc") if whole else torch.div(a, b)


def maximum(a: Tensor, b: Any) -> Tensor:
    """Max of two."""
    return torch.maximum(a, b) if isinstance(b, Tensor) else torch.clamp(a, min=b)


def minimum(a: Tensor, b: Any) -> Tensor:
    """Min of two."""
    return torch.minimum(a, b) if isinstance(b, Tensor) else torch.clamp(a, max=b)


def clip(attributes: Attributes, x: Value, low: Value | None = None, high: Value | None = None) -> Tensor:
    """Clip; either bound may be left out."""
    x = tensor(x)
    least, most = (None if one is None else _bound(one, x) for one in (low, high))
    if least is None and most is None:
        return x
    if least == 0.0 and most == 6.0:
        return F.relu6(x)  # the form for which backends have kernels
    if isinstance(least, Tensor) or isinstance(most, Tensor):
        least = least if least is None or isinstance(least, Tensor) else torch.full_like(x, least)
        most = most if most is None or isinstance(most, Tensor) else torch.full_like(x, most)
    return torch.clamp(x, min=least, max=most)


def _bound(value: Value, beside: Tensor) -> Any:
    number = scalar(value)
    return tensor(value, beside) if number is None else number


def where(attributes: Attributes, condition: Value, a: Value, b: Value) -> Value:
    """Where."""
    if isinstance(condition, Numbers) and isinstance(a, Numbers) and isinstance(b, Numbers):
        count = max(len(condition.values), len(a.values), len(b.values))
        parts = [one.values * count if len(one.values) == 1 else one.values for one in (condition, a, b)]
        chosen = [yes if bool(asked) else no for asked, yes, no in zip(*parts, strict=True)]
        return a.like(chosen, single=condition.single and a.single and b.single)
    beside = next(one for one in (condition, a, b) if isinstance(one, Tensor))
    return torch.where(tensor(condition, beside), tensor(a, beside), tensor(b, beside))


def cast(attributes: Attributes, x: Value, *_: Value) -> Value:
    """Cast. Whole numbers stay known; anything else becomes a tensor."""
    kind = torch_dtype(attributes["to"])
    if isinstance(x, Numbers):
        if kind in (torch.int64, torch.int32) and x.dtype == torch.int64:
            return x
        return tensor(x).to(kind)
    return x.to(kind)


def identity(attributes: Attributes, x: Value, *_: Value) -> Value:
    """Identity, and Dropout, which does nothing outside of training."""
    return x


def modulo(attributes: Attributes, a: Value, b: Value) -> Value:
    """Mod; with the sign of the divisor, or of the dividend where `fmod` is set."""
    rest = torch.fmod if attributes.get("fmod", 0) else torch.remainder
    result: Value = binary(rest, operator.mod)(attributes, a, b)
    return result


def gelu(attributes: Attributes, x: Tensor) -> Tensor:
    """Gelu, exact or by tanh."""
    return F.gelu(x, approximate=attributes.get("approximate", "none"))


def leaky_relu(attributes: Attributes, x: Tensor) -> Tensor:
    """LeakyRelu."""
    return F.leaky_relu(x, attributes.get("alpha", 0.01))


def elu(attributes: Attributes, x: Tensor) -> Tensor:
    """Elu."""
    return F.elu(x, attributes.get("alpha", 1.0))


def prelu(attributes: Attributes, x: Tensor, slope: Value) -> Tensor:
    """PRelu; its slope broadcasts from the right, unlike PyTorch's."""
    return torch.where(x < 0, x * tensor(slope, x), x)


def hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    """HardSigmoid."""
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def softmax(attributes: Attributes, x: Tensor) -> Tensor:
    """Softmax."""
    return torch.softmax(x, attributes.get("axis", -1))


def log_softmax(attributes: Attributes, x: Tensor) -> Tensor:
    """LogSoftmax."""
    return torch.log_softmax(x, attributes.get("axis", -1))


def one_hot(attributes: Attributes, indices: Tensor, depth: Value, values: Value) -> Tensor:
    """OneHot; `values` are those elsewhere and at the place."""
    count = scalar(depth)
    if count is None:
        raise BundleError("its depth is not known without an image")
    axis = attributes.get("axis", -1)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    places = torch.arange(int(count), device=indices.device).view([-1] + [1] * (indices.ndim - axis))
    hit = (indices % int(count)).unsqueeze(axis) == places
    off, on = (tensor(values, indices)[place] for place in (0, 1))
    return torch.where(hit, on, off)
