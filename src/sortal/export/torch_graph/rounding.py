"""Operators of training with rounding, which are no part of ONNX: what `compress.rounding` puts in the place of
QuantizeLinear and DequantizeLinear. They compute what the pair computes; their gradients pass through the rounding
(Bengio et al. 2013, "Estimating or propagating gradients through stochastic neurons", the straight-through estimator)
and are zero where a value lies beyond the levels.

Attributes are arrays: `scale`, `zero`, `low` and `high` (levels). Weights are held in units of their steps, so that one
learning rate suits all channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sortal.export.torch_graph.arithmetic import Operator

_NEAR = 1e-4


def fake_quantize(given: Mapping[str, Any], x: Tensor) -> Tensor:
    """Activations, rounded to one scale."""
    scale, zero = float(given["scale"].item()), int(given["zero"])
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, int(given["low"]), int(given["high"]))


def rounded(given: Mapping[str, Any], levels: Tensor) -> Tensor:
    """Weights from their levels, rounded; `scale` has a place for every dimension."""
    whole = torch.fake_quantize_per_tensor_affine(levels, 1.0, 0, int(given["low"]), int(given["high"]))
    return whole * _scale(given, levels)


def scaled(given: Mapping[str, Any], units: Tensor) -> Tensor:
    """Biases from their units; their steps are too fine to be rounded."""
    return units * _scale(given, units)


def root(_: Mapping[str, Any], x: Tensor) -> Tensor:
    """The square root without its gradient next to 0, which has no end: features that were rounded are often 0."""
    away = torch.sqrt(x.clamp(min=_NEAR))
    return away + (torch.sqrt(x) - away).detach()


def _scale(given: Mapping[str, Any], like: Tensor) -> Tensor:
    return torch.tensor(given["scale"], dtype=like.dtype, device=like.device)


OPERATORS: Mapping[str, Operator] = {
    "sortal.FakeQuantize": fake_quantize,
    "sortal.Rounded": rounded,
    "sortal.Scaled": scaled,
    "sortal.Sqrt": root,
}
