"""Heads: from what a backbone gives to the logits of the classes. Widths are read from the backbone, never typed.

Shapes: N batch, D embedding, C channels of a middle stage, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from sortal.core.errors import InternalError, WeightsError

MIDDLE_WIDTH = 256
"""Channels of the middle branch of a `multi_scale` head behind its 1x1 convolution."""


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What is put around a backbone: everything of a recipe's `model` section that the finished network depends on."""

    head: str = "linear"
    """`linear`, `mlp` or `multi_scale`."""
    hidden: int | None = None
    """Width of the hidden layer of an `mlp`; None is half the embedding."""
    fusion: float | Literal["learned"] = 0.7
    """Share of the last stage's logits in a `multi_scale` head."""
    attention: str | None = None
    """`cbam` or none."""
    attention_stage: int | None = None
    """Index in `Network.stages()` of the stage that the attention follows; None is the last one."""
    pooling: str = "mean"
    """`mean`, `sqrt` or `stages`, see `models.pooling`."""
    views: str = "single"
    """`single`, or `mirror`: answers are averaged over the image and its mirror image."""


PLAIN = Wiring()
"""A linear head on the embedding of the image, and nothing else."""


@dataclass(frozen=True, kw_only=True)
class Widths:
    """What a backbone gives: lengths of the embedding D, of the feature map F, and of the middle map C, 0 if unused."""

    embedding: int
    features: int
    middle: int = 0


class MultiScaleHead(nn.Module):
    """Two branches: the pooled last stage, and a middle stage of the backbone through a 1x1 convolution of its own.

    The logits are w * main + (1 - w) * middle, with w fixed or learned between 0 and 1 (from 0.7). Each branch gives
    logits of its own, for a loss of its own in training. Dropout acts on the embedding, in the main branch.
    """

    def __init__(self, widths: Widths, classes: int, *, dropout: float, fusion: float | Literal["learned"]):
        super().__init__()
        self.main = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths.embedding, classes))
        self.reduce = nn.Conv2d(widths.middle, MIDDLE_WIDTH, 1)
        self.middle = nn.Linear(MIDDLE_WIDTH, classes)
        self.fixed_share = None if fusion == "learned" else fusion
        if self.fixed_share is None:
            self.share_logit = nn.Parameter(torch.tensor(math.log(0.7 / 0.3)))
        _start_quietly(cast(nn.Linear, self.main[-1]))
        _start_quietly(self.middle)

    @property
    def share(self) -> Tensor | float:
        """w: the weight of the main branch."""
        return torch.sigmoid(self.share_logit) if self.fixed_share is None else self.fixed_share

    def forward(self, embedding: Tensor, middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, D) and (N, C, h, w) to the fused logits and those of the main and of the middle branch, (N, K) each."""
        main: Tensor = self.main(embedding)
        side: Tensor = self.middle(self.reduce(middle).mean((2, 3)))
        return self.share * main + (1 - self.share) * side, main, side


Head = nn.Sequential | MultiScaleHead


def build_head(wiring: Wiring, widths: Widths, classes: int, *, dropout: float) -> Head:
    """The head that `wiring` asks for. `linear`: dropout, Linear(D, K). `mlp`: Linear(D, hidden), ReLU, dropout,
    Linear(hidden, K). `multi_scale`: `MultiScaleHead`. Raises WeightsError for another name."""
    match wiring.head:
        case "linear":
            head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths.embedding, classes))
            _start_quietly(cast(nn.Linear, head[-1]))
        case "mlp":
            hidden = hidden_width(wiring, widths.embedding)
            first, last = nn.Linear(widths.embedding, hidden), nn.Linear(hidden, classes)
            head = nn.Sequential(first, nn.ReLU(), nn.Dropout(dropout), last)
        case "multi_scale":
            return MultiScaleHead(widths, classes, dropout=dropout, fusion=wiring.fusion)
        case _:
            raise WeightsError("unknown head", received=wiring.head, hint="known: linear, mlp, multi_scale")
    return head


def hidden_width(wiring: Wiring, embedding: int) -> int:
    """Width of the hidden layer of an `mlp` head: as asked, or half the embedding (2048 -> 1024)."""
    return wiring.hidden or max(1, embedding // 2)


def last_linear(head: Head) -> nn.Linear:
    """The layer whose outputs are the logits; of a `multi_scale` head, that of the main branch."""
    layer = head.main[-1] if isinstance(head, MultiScaleHead) else head[-1]
    if not isinstance(layer, nn.Linear):
        raise InternalError("the head of a network must end in a linear layer")
    return layer


def _start_quietly(linear: nn.Linear) -> None:
    """Nearly equal chances for all classes at the start."""
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
