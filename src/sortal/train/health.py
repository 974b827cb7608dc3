"""The norms of a network's gradients, block by block; what they say about a training is `evaluate.diagnose.health`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sortal.train.optim import block_names


@torch.no_grad()
def gradient_norms(network: nn.Module) -> dict[str, float]:
    """The norm of each block's gradients, from the input to the head; frozen blocks are left out.

    For use between the backward pass and clipping. A block of the backbone is what `optim.block_names` takes for one;
    everything else is `head`.
    """
    backbone = [name for name, _ in network.named_parameters() if name.startswith("backbone.")]
    blocks = block_names([name.removeprefix("backbone.") for name in backbone])
    squares: dict[str, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            block = blocks[name.removeprefix("backbone.")] if name.startswith("backbone.") else "head"
            squares.setdefault(block, []).append(parameter.grad.float().square().sum())
    return {block: math.sqrt(float(torch.stack(parts).sum())) for block, parts in squares.items()}
