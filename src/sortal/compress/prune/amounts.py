"""How many channels of each set have to go, so that a share of the work or of the weights does.

Every set loses the same share of its channels, rounded to numbers that processors like. That share is found by
bisection: what is left is counted from the shapes of the layers, without cutting anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sortal.compress.prune.channels import Anatomy, ChannelSet
from sortal.models.network import Network

Measure = Literal["macs", "parameters"]

_BISECTIONS = 24
MOST = 0.95
"""Share of the channels of a set that may go at most."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or linear layer: what an image costs there."""

    gives: int
    takes: int
    groups: int
    depthwise: bool
    kernel: int
    """Weights of a filter for one channel."""
    positions: int
    """How often the filter is applied to an image."""
    bias: bool

    def cost(self, measure: Measure, gone_out: int = 0, gone_in: int = 0) -> int:
        """Multiplications of an image, or weights, with so many channels fewer."""
        gives = self.gives - gone_out
        each = 1 if self.depthwise else (self.takes - gone_in) // self.groups
        weights = gives * each * self.kernel
        return weights * self.positions if measure == "macs" else weights + (gives if self.bias else 0)


def layers_of(network: Network, *, size: tuple[int, int], channels: int) -> dict[str, Layer]:
    """Name in the backbone -> layer, for images of `size`, (height, width)."""
    found: dict[str, Layer] = {}
    names = {module: name for name, module in network.backbone.named_modules()}

    def look(module: nn.Module, given: Any, output: Tensor) -> None:  # noqa: ARG001 (torch's signature)
        found[names[module]] = _layer(module, output)

    hooks = [
        module.register_forward_hook(look)
        for module in network.backbone.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            network.eval().backbone(torch.zeros(1, channels, *size))
    finally:
        network.pooling.forget()
        for hook in hooks:
            hook.remove()
    return found


def _layer(module: nn.Module, output: Tensor) -> Layer:
    if isinstance(module, nn.Conv2d):
        return Layer(
            gives=module.out_channels,
            takes=module.in_channels,
            groups=module.groups,
            depthwise=1 < module.groups == module.in_channels,
            kernel=prod(module.kernel_size),
            positions=prod(output.shape[2:]),
            bias=module.bias is not None,
        )
    linear: Any = module
    return Layer(
        gives=linear.out_features,
        takes=linear.in_features,
        groups=1,
        depthwise=False,
        kernel=1,
        positions=prod(output.shape[1:-1]),
        bias=linear.bias is not None,
    )


def granule(count: int) -> int:
    """Channels are kept in multiples of this: 8 fill the vector and integer instructions of processors; small sets
    would lose too much to rounding."""
    return 8 if count >= 32 else 4 if count >= 16 else 1


def kept_channels(channels: ChannelSet, share: float) -> int:
    """How many of a set's channels stay when about `share` of them go: a multiple of the granule and of the fold."""
    step = lcm(granule(channels.count), channels.fold)
    if step >= channels.count:
        return channels.count
    wanted = round(channels.count * (1 - share) / step) * step
    least = -(-round(channels.count * (1 - MOST)) // step) * step
    return min(channels.count, max(step, least, wanted))


def left(layers: Mapping[str, Layer], sets: Sequence[ChannelSet], kept: Sequence[int], measure: Measure) -> int:
    """What the layers cost when of each set so many channels stay."""
    gone = defaultdict[tuple[str, str], int](int)
    for channels, stays in zip(sets, kept, strict=True):
        for slot in channels.slots:
            gone[slot.name, slot.axis] += (channels.count - stays) * len(slot.places) // channels.count
    return sum(
        layer.cost(measure, gone[name, "out"], 0 if layer.depthwise else gone[name, "in"])
        for name, layer in layers.items()
    )


def channels_to_keep(
    found: Anatomy, layers: Mapping[str, Layer], *, goal: int, measure: Measure
) -> tuple[tuple[int, ...], int]:
    """How many channels of each set stay so that at most `goal` multiplications or weights do, and how many those are.

    Every set loses the same share of its channels; where the last step of rounding, which many sets take together, is
    more than is needed, the sets nearest to the output take it. Where even the largest cut leaves more than `goal`,
    that one.
    """
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if left(layers, found.sets, _kept(found, middle), measure) > goal:
            low = middle
        else:
            high = middle
    kept, least_kept = list(_kept(found, low)), _kept(found, high)
    for number in reversed(range(len(kept))):
        if left(layers, found.sets, kept, measure) <= goal:
            break
        kept[number] = least_kept[number]
    return tuple(kept), left(layers, found.sets, kept, measure)


def _kept(found: Anatomy, share: float) -> tuple[int, ...]:
    return tuple(kept_channels(channels, share) for channels in found.sets)
