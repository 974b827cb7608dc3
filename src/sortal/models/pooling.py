"""From feature maps to the embedding: the mean, or statistics of several stages with their square roots taken.

A mean over positions says how much of a feature there is, a standard deviation whether it is everywhere or in places.
Middle stages know textures and colors that the last one has given up for ImageNet's classes. The signed square root
keeps a few strong features from drowning the rest ("power normalization", Perronnin et al. 2010, "Improving the Fisher
kernel for large-scale image classification").

Shapes: N batch, C channels, h and w feature positions, L tokens, D embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

POOLINGS = ("mean", "sqrt", "stages")
LAST_STAGES = 4
"""Of which `stages` takes statistics, beside the backbone's own embedding."""


class Pooling(nn.Module):
    """Makes the embedding of a network from that of its backbone, and from maps that it overhears for `stages`."""

    def __init__(self, kind: str, backbone: nn.Module, stages: tuple[str, ...]):
        super().__init__()
        self.kind = kind
        self.slack = 0.0
        """Added under the square roots, whose slope at 0 is infinite, where gradients are taken to look at them."""
        self._parts: tuple[int, ...] = ()
        self._heard = stage_modules(backbone, stages[-LAST_STAGES:]) if kind == "stages" else []
        self._maps: dict[nn.Module, Tensor] = {}
        for module in self._heard:
            module.register_forward_hook(self._overhear)

    @property
    def parts(self) -> tuple[int, ...]:
        """The widths that an embedding consists of, the backbone's own first; known once an image went through."""
        return self._parts

    def forward(self, embedding: Tensor) -> Tensor:
        """(N, D) of the backbone, right after it ran, to (N, D')."""
        if self.kind == "mean":
            self._parts = (embedding.shape[1],)
            return embedding
        parts = [part for module in self._heard for part in statistics(self._maps.pop(module), self.slack)]
        self._parts = (embedding.shape[1], *(part.shape[1] for part in parts))
        return signed_root(torch.cat([embedding, *parts], 1), self.slack)

    def forget(self) -> None:
        """Drop the maps of a backbone that ran on its own."""
        self._maps.clear()

    def _overhear(self, module: nn.Module, given: Any, output: Tensor) -> None:  # noqa: ARG002 (torch's signature)
        # a bound method, and no closure: copies of a network then listen to their own modules
        self._maps[module] = output


def signed_root(x: Tensor, slack: float = 0.0) -> Tensor:
    """sign(x) * sqrt(|x|). Its slope at 0 is infinite unless there is `slack`: for features that are not trained
    through."""
    return torch.sign(x) * torch.sqrt(x.abs() + slack if slack else x.abs())


def statistics(feature_map: Tensor, slack: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over positions: (N, C) each, of (N, C, h, w) or (N, L, C)."""
    flat = feature_map.flatten(2) if feature_map.ndim == 4 else feature_map.transpose(1, 2)
    mean = flat.mean(2)
    variance = (flat - mean[:, :, None]).square().mean(2)
    return mean, (variance + slack if slack else variance).sqrt()


def stage_modules(backbone: nn.Module, stages: tuple[str, ...]) -> list[nn.Module]:
    """The modules of stages that are one module each."""
    named = dict(backbone.named_modules())
    found = [named.get(name) or named.get(f"body.{name}") for name in stages]
    return [module for module in found if module is not None]
