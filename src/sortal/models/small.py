"""Sortal's own small residual networks, for training from scratch on a CPU.

`sortal_small` is for images of 64 to 128 px, `sortal_tiny` for 28 to 32 px. Both use plain 3x3 convolutions: depthwise
ones have fewer multiplications, but on a CPU they wait for memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sortal.core.errors import WeightsError
from sortal.models.blocks import ConvNormAct, ResidualBlock, scaled_depth, scaled_width


class SmallNet(nn.Module):
    """A stem and stages of residual blocks; all stages but the first halve the resolution.

    (N, in_chans, H, W) to the embedding (N, widths[-1]) and the feature map (N, widths[-1], h, w) it is the mean of.
    """

    def __init__(
        self,
        *,
        in_chans: int,
        stem: int,
        stem_stride: int,
        first_stride: int,
        widths: Sequence[int],
        depths: Sequence[int],
        drop_path: float,
    ):
        super().__init__()
        self.stem = ConvNormAct(in_chans, stem, stride=stem_stride)
        inputs = (stem, *widths[:-1])
        strides = (first_stride, *[2] * (len(widths) - 1))
        rates = _rising(drop_path, depths)
        self.stages = nn.Sequential(*map(_stage, inputs, widths, strides, rates))
        _initialize(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stages(self.stem(x))
        return features.mean((2, 3)), features

    def forward_with_middle(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of `forward`, and the map of the stage before the last."""
        middle = self.stages[:-1](self.stem(x))
        features = self.stages[-1](middle)
        return features.mean((2, 3)), features, middle


def sortal_small(*, in_chans: int = 3, width: float = 1.0, depth: float = 1.0, drop_path: float = 0.0) -> SmallNet:
    """About 0.7 M parameters; the feature map is 16 times smaller than the image. `width` and `depth` scale it;
    `drop_path` is the stochastic depth of its last block."""
    stem, widths, depths = _scaled((24, 48, 96, 192), (1, 1, 1), width, depth)
    return SmallNet(
        in_chans=in_chans, stem=stem, stem_stride=2, first_stride=2, widths=widths, depths=depths, drop_path=drop_path
    )


def sortal_tiny(*, in_chans: int = 3, width: float = 1.0, depth: float = 1.0, drop_path: float = 0.0) -> SmallNet:
    """About 0.4 M parameters; the feature map is 4 times smaller than the image. `width` and `depth` scale it;
    `drop_path` is the stochastic depth of its last block."""
    stem, widths, depths = _scaled((24, 24, 64, 160), (1, 1, 1), width, depth)
    return SmallNet(
        in_chans=in_chans, stem=stem, stem_stride=1, first_stride=1, widths=widths, depths=depths, drop_path=drop_path
    )


def _scaled(
    widths: Sequence[int], depths: Sequence[int], width: float, depth: float
) -> tuple[int, list[int], list[int]]:
    if not (0.1 <= width <= 16 and 0.1 <= depth <= 16):
        raise WeightsError("width and depth must lie between 0.1 and 16", received=f"width={width}, depth={depth}")
    stem, *stages = (scaled_width(base, width) for base in widths)
    return stem, stages, [scaled_depth(count, depth) for count in depths]


def _rising(drop_path: float, depths: Sequence[int]) -> list[list[float]]:
    """The stochastic depth of each block, by stages: from 0 for the first linearly to `drop_path` for the last."""
    last = max(1, sum(depths) - 1)
    rates = iter([drop_path * number / last for number in range(sum(depths))])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _stage(channels: int, width: int, stride: int, rates: Sequence[float]) -> nn.Sequential:
    first = ResidualBlock(channels, width, stride=stride, drop_path=rates[0])
    return nn.Sequential(first, *(ResidualBlock(width, width, drop_path=rate) for rate in rates[1:]))


def _initialize(network: nn.Module) -> None:
    """He initialization for convolutions; the last norm of every residual branch starts at zero (arXiv:1706.02677)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.norm.weight)
