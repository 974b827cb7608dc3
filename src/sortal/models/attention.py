"""Attention that can be put behind a stage of a convolutional network: CBAM.

Shapes: N batch, C channels, h and w feature positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sortal.core.errors import WeightsError
from sortal.models.heads import Wiring
from sortal.models.stages import find_stages


class ChannelGate(nn.Module):
    """A factor for each channel, from the mean and the maximum over positions through one small shared network."""

    def __init__(self, channels: int, *, reduction: int = 16):
        super().__init__()
        hidden = max(4, channels // reduction)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        _start_at_zero(self.expand)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, 1, 1), between 0 and 2."""
        score = self._score(x.mean((2, 3))) + self._score(x.amax((2, 3)))
        return 2 * torch.sigmoid(score)[:, :, None, None]

    def _score(self, pooled: Tensor) -> Tensor:
        score: Tensor = self.expand(torch.relu(self.reduce(pooled)))
        return score


class SpatialGate(nn.Module):
    """A factor for each position, from the mean and the maximum over channels through one 7x7 convolution."""

    def __init__(self, *, kernel: int = 7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)
        _start_at_zero(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 1, h, w), between 0 and 2."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return 2 * torch.sigmoid(self.conv(pooled))


class Cbam(nn.Module):
    """Channel attention, then spatial attention (Woo et al. 2018, arXiv:1807.06521).

    Unlike the paper's, the gates are doubled and start at exactly 1, so that the module begins as the identity and
    the features of a pretrained network survive its insertion.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channel = ChannelGate(channels)
        self.spatial = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        x = x * self.channel(x)
        y: Tensor = x * self.spatial(x)
        return y

    def follow(self, module: nn.Module) -> None:
        """From now on, change what `module` gives out; its own parameters keep their names."""
        module.register_forward_hook(self._after)

    def _after(self, _module: nn.Module, _given: Any, output: Tensor) -> Tensor:
        # a bound method, and no closure: copies of a network then use their own copy of the gates
        changed: Tensor = self(output)
        return changed


def attend(backbone: nn.Module, wiring: Wiring, *, image: tuple[int, int, int]) -> Cbam:
    """The attention of `wiring`, made to follow its stage of `backbone`, as wide as that stage is.

    `image` is (channels, height, width) of an image that the backbone takes. Raises WeightsError for an unknown kind,
    an index that is none, and stages that do not give feature maps (N, C, h, w), as those of transformers.
    """
    if wiring.attention != "cbam":
        raise WeightsError("unknown attention", received=wiring.attention, hint="known: cbam")
    names = list(find_stages(backbone))
    widths = _map_widths(backbone, names, image)
    number = wiring.attention_stage
    if number is not None and not -len(names) <= number < len(names):
        raise WeightsError("no such stage", received=str(number), hint=f"0 to {len(names) - 1}: {', '.join(names)}")
    wanted = names[::-1] if number is None else [names[number]]
    name = next((name for name in wanted if name in widths), None)
    if name is None:
        hint = f"stages that do: {', '.join(widths) or 'none; use model.attention=null'}"
        raise WeightsError("attention needs a stage that gives feature maps", received=", ".join(wanted), hint=hint)
    cbam = Cbam(widths[name])
    cbam.follow(_stage_module(backbone, name))
    return cbam


def _map_widths(backbone: nn.Module, names: list[str], image: tuple[int, int, int]) -> dict[str, int]:
    """Channels of each stage that gives maps (N, C, h, w) on the way to the final feature map."""
    body: Any = getattr(backbone, "body", backbone)
    if getattr(body, "output_fmt", "NCHW") != "NCHW":
        return {}
    paths = {name for name, _ in body.named_modules()}
    seen: dict[str, int] = {}

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen[name] = output.shape[1]

    hooks = [
        _stage_module(backbone, name).register_forward_hook(lambda _m, _x, output, name=name: note(name, output))
        for name in names
        if name in paths
    ]
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        getattr(body, "forward_features", body)(torch.zeros(1, *image))
    backbone.train(was_training)
    for hook in hooks:
        hook.remove()
    return {name: seen[name] for name in names if name in seen}


def _stage_module(backbone: nn.Module, name: str) -> nn.Module:
    body: nn.Module = getattr(backbone, "body", backbone)
    return body.get_submodule(name)


def _start_at_zero(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
