"""Operators that look along axes: sums, means, extremes and the places where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sortal.core.errors import BundleError
from sortal.export.torch_graph.arithmetic import Attributes, Operator
from sortal.export.torch_graph.values import Numbers, Value, known, one_known, tensor


def reduction(
    function: Callable[[Tensor, list[int], bool], Tensor], on_numbers: Callable[[Any], Any] | None = None
) -> Operator:
    """ReduceMean and its kin: axes are an input since operation set 18; without any, all axes.

    `function` reduces a tensor along axes and keeps them with size 1, or not.
    """

    def run(attributes: Attributes, x: Value, axes: Value | None = None) -> Value:
        keep = bool(attributes.get("keepdims", 1))
        if isinstance(x, Numbers) and on_numbers is not None:
            return x.like([on_numbers(x.values)], single=not keep)
        x = tensor(x)
        along = known(axes, "axes") if axes is not None else list(attributes.get("axes", ()))
        if not along and attributes.get("noop_with_empty_axes", 0):
            return x
        return function(x, along or list(range(x.ndim)), keep)

    return run


def product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """ReduceProd."""
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


def euclidean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """ReduceL2."""
    return torch.sqrt(torch.sum(x * x, axes, keepdim=keep))


def arg_max(attributes: Attributes, x: Tensor) -> Tensor:
    """ArgMax; the first of equal values."""
    return torch.argmax(x, _axis(attributes), keepdim=bool(attributes.get("keepdims", 1)))


def arg_min(attributes: Attributes, x: Tensor) -> Tensor:
    """ArgMin; the first of equal values."""
    return torch.argmin(x, _axis(attributes), keepdim=bool(attributes.get("keepdims", 1)))


def _axis(attributes: Attributes) -> int:
    if attributes.get("select_last_index", 0):
        raise BundleError("the last of equal values is asked for, PyTorch gives the first")
    return int(attributes.get("axis", 0))


def top_k(attributes: Attributes, x: Tensor, count: Value) -> tuple[Tensor, Tensor]:
    """TopK: values and places, sorted."""
    largest, ordered = bool(attributes.get("largest", 1)), bool(attributes.get("sorted", 1))
    values, places = torch.topk(x, one_known(count, "count"), attributes.get("axis", -1), largest, ordered)
    return values, places


def cumulated(attributes: Attributes, x: Tensor, axis: Value) -> Tensor:
    """CumSum."""
    if attributes.get("exclusive", 0) or attributes.get("reverse", 0):
        raise BundleError("exclusive and reverse sums are not known here")
    return torch.cumsum(x, one_known(axis, "axis"))


def lp_normalized(attributes: Attributes, x: Tensor) -> Tensor:
    """LpNormalization: divided by the length along an axis; zeros stay zeros."""
    length = torch.linalg.vector_norm(x, attributes.get("p", 2), attributes.get("axis", -1), keepdim=True)
    return torch.where(length == 0, torch.zeros_like(x), x / length)
