"""Building blocks of Sortal's own networks: convolution + batch norm + activation, depthwise-separable, residual.

Shapes: N batch, C channels in, F channels out, H and W pixels; every block maps (N, C, H, W) to (N, F, H', W') with
H' = ceil(H / stride).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class ConvNormAct(nn.Module):
    """Square convolution, batch normalization, ReLU (or none): the unit everything else is made of."""

    def __init__(
        self, channels: int, width: int, *, kernel: int = 3, stride: int = 1, groups: int = 1, active: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class DepthwiseSeparable(nn.Sequential):
    """A 3x3 convolution of each channel alone, then a 1x1 convolution across them (MobileNet, arXiv:1704.04861).

    9*C + C*F weights and as many multiplications a pixel, where a standard 3x3 convolution has 9*C*F.
    """

    def __init__(self, channels: int, width: int, *, stride: int = 1):
        super().__init__(
            ConvNormAct(channels, channels, stride=stride, groups=channels),
            ConvNormAct(channels, width, kernel=1),
        )


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the mean of all channels (arXiv:1709.01507)."""

    def __init__(self, channels: int, *, reduction: int = 4):
        super().__init__()
        hidden = max(8, channels // reduction)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(mean))))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added again (ResNet, arXiv:1512.03385).

    `skip=False` leaves the addition out, for comparison. Where shape changes, the skip is a 2x2 average and a 1x1
    convolution, which loses less than a strided 1x1 convolution (arXiv:1812.01187). `drop_path` is the chance that an
    image passes by the convolutions in training (stochastic depth, arXiv:1603.09382).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        stride: int = 1,
        skip: bool = True,
        squeeze: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.first = ConvNormAct(channels, width, stride=stride)
        self.second = ConvNormAct(width, width, active=False)
        self.gate = SqueezeExcite(width) if squeeze else nn.Identity()
        self.skip = _shortcut(channels, width, stride) if skip else None
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gate(self.second(self.first(x)))
        return torch.relu(y if self.skip is None else self.drop_path(y) + self.skip(x))


class DropPath(nn.Module):
    """In training, zero with chance `drop_prob` for each image of a batch, and otherwise 1 / (1 - drop_prob) times as
    much, so that the mean stays (stochastic depth, arXiv:1603.09382)."""

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.drop_prob
        return x * kept / (1.0 - self.drop_prob)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Factors on the base network's depth and width, and the input size in pixels."""

    depth: float
    width: float
    resolution_px: int


def compound_scaling(phi: float, *, base_px: int = 224) -> Scaling:
    """Depth 1.2^phi, width 1.1^phi and resolution 1.15^phi together (EfficientNet, arXiv:1905.11946, section 3.3).

    Rounded as the published family is, to tenths and to multiples of 20 px: phi 0 is B0 (1.0, 1.0, 224), 1 is B2,
    2 is B3 (1.4, 1.2, 300). Raises ValueError for a negative phi.
    """
    if phi < 0:
        raise ValueError("phi must be at least 0")
    resolution = base_px if phi == 0 else 20 * round(base_px * 1.15**phi / 20)
    return Scaling(depth=round(1.2**phi, 1), width=round(1.1**phi, 1), resolution_px=resolution)


def scaled_width(width: int, factor: float, *, divisor: int = 8) -> int:
    """`width * factor` as a multiple of `divisor`, never more than 10 % below (the family's rounding rule)."""
    exact = width * factor
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * exact else rounded


def scaled_depth(blocks: int, factor: float) -> int:
    """`blocks * factor`, rounded up."""
    return math.ceil(blocks * factor - 1e-9)


def _shortcut(channels: int, width: int, stride: int) -> nn.Module:
    if channels == width and stride == 1:
        return nn.Identity()
    pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, ConvNormAct(channels, width, kernel=1, active=False))
