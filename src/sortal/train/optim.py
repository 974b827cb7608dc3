"""The optimizer: which parameters decay, at which rate each layer learns, clipping, and an average of the weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sortal.core.errors import InternalError
from sortal.models.network import Network

_BLOCK = re.compile(r"(?:\D*\.)?\D*\d+(?:\.\d+)?")


def adamw(network: Network, *, lr: float, weight_decay: float, layer_decay: float = 1.0) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over all trainable parameters, none of them left out.

    Weight decay is decoupled and spares norms and biases. A parameter with d blocks of the network above it learns at
    `lr * layer_decay ** d`; every group keeps that factor as `scale`, which `set_rate` multiplies with.
    """
    decays = {id(p): group["weight_decay"] for group in network.parameter_groups(weight_decay) for p in group["params"]}
    depths = block_depths([name for name, _ in network.backbone.named_parameters()])
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** depths.get(name.removeprefix("backbone."), 0)
            groups.setdefault((scale, decays[id(parameter)]), []).append(parameter)
    if not groups:
        raise InternalError("no parameter of the network can be trained")
    settings = [{"params": p, "weight_decay": wd, "scale": s, "lr": lr * s} for (s, wd), p in groups.items()]
    return torch.optim.AdamW(settings, lr=lr)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group to `lr` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)


def clip(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Scale all gradients so that their total norm is at most `limit` (0: leave them). Returns the norm before.

    A norm that is not finite is returned as it is; the caller decides.
    """
    wanted = [p for p in parameters if p.grad is not None]
    return float(nn.utils.clip_grad_norm_(wanted, limit if limit > 0 else float("inf")))


def block_depths(names: Sequence[str]) -> dict[str, int]:
    """How many blocks lie above each parameter of a backbone, at least 1: the head has 0.

    `names` run from the input to the output. A block is what shares a name up to its first number or two
    (`blocks.3.1`, `layer4.0`, `stages.2.blocks`); what has no number belongs to the block before it.
    """
    number, seen = {}, dict[str, int]()
    for name in names:
        found = _BLOCK.match(name)
        prefix = found[0] if found else next(reversed(seen), "")
        number[name] = seen.setdefault(prefix, len(seen))
    return {name: len(seen) - block for name, block in number.items()}


class Average:
    """Exponential moving average of a network's floating-point state, with the bias of the first steps taken out.

    `decay` approaches its value as min(decay, (1 + step) / (10 + step)), so that early weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.state = copy_state(network)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step` (the first is 0). Integer buffers are copied."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1.0 - keep)
            else:
                self.state[name].copy_(value)


def copy_state(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, copied and detached."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
