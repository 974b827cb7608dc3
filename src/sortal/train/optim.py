"""The optimizer: which parameters decay, at which rate each layer learns, clipping, and averages of the weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sortal.core.errors import InternalError
from sortal.core.sections import OptimSection
from sortal.models.network import Network

_BLOCK = re.compile(r"(?:\D*\.)?\D*\d+(?:\.\d+)?")
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def make_optimizer(
    network: Network, section: OptimSection, *, lr: float, backbone_lr: float, layer_decay: float
) -> torch.optim.Optimizer:
    """The optimizer that `section` names over all trainable parameters of `network`, none left out and none twice.

    The head learns at `lr`, the uppermost block of the backbone at `backbone_lr`, and each block below at
    `layer_decay` times the rate of the one above it; biases of norms at `norm_lr_factor` times that. Every group keeps
    its rate over `lr` as `scale`, which `set_rate` multiplies with. Norms, biases and what modules ask to spare do not
    decay. `adamw` decays weights apart from the gradient (Loshchilov and Hutter 2019), `adam` (Kingma and Ba 2015) and
    `sgd` add the decay to it. Raises InternalError when nothing can be trained.
    """
    groups = _groups(network, section, lr=lr, backbone_lr=backbone_lr, layer_decay=layer_decay)
    if not groups:
        raise InternalError("no parameter of the network can be trained")
    optimizer: torch.optim.Optimizer
    match section.name:
        case "adamw":
            optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
        case "adam":
            optimizer = torch.optim.Adam(groups, lr=lr, fused=True)
        case "sgd":
            nesterov = section.nesterov and section.momentum > 0
            optimizer = torch.optim.SGD(groups, lr=lr, momentum=section.momentum, nesterov=nesterov, fused=True)
    optimizer.register_step_pre_hook(_align)
    check_optimizer(optimizer, network)
    return optimizer


def check_optimizer(optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
    """Raise InternalError unless the optimizer has every trainable parameter of `network` exactly once and no other.

    A frozen parameter in an optimizer has no gradient and silently stays as it is; one that is missing, too.
    """
    given = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    wanted = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    frozen = [names.get(number, "a parameter of another network") for number in given if number not in wanted]
    missing = [names[number] for number in wanted.difference(given)]
    if frozen:
        raise InternalError(f"the optimizer has {len(frozen)} parameters that are not trainable", received=frozen[0])
    if missing:
        raise InternalError(f"the optimizer lacks {len(missing)} trainable parameters", received=missing[0])
    if len(set(given)) < len(given):
        raise InternalError("the optimizer has a parameter twice")


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


def block_names(names: Sequence[str]) -> dict[str, str]:
    """The block that each parameter of a backbone belongs to; `names` run from the input to the output.

    A block is what shares a name up to its first number or two (`blocks.3.1`, `layer4.0`, `stages.2`); what has no
    number belongs to the block before it, or to `stem`.
    """
    blocks: dict[str, str] = {}
    last = "stem"
    for name in names:
        found = _BLOCK.match(name)
        last = found[0] if found else last
        blocks[name] = last
    return blocks


def block_depths(names: Sequence[str]) -> dict[str, int]:
    """How many blocks lie above each parameter of a backbone, at least 1: the head has 0."""
    blocks = block_names(names)
    order = {block: number for number, block in enumerate(dict.fromkeys(blocks.values()))}
    return {name: len(order) - order[block] for name, block in blocks.items()}


class Average:
    """Exponential moving average of a network's floating-point state, with the bias of the first steps taken out.

    `decay` approaches its value as min(decay, (1 + step) / (10 + step)), so that early weights are soon forgotten. The
    running statistics of batch norms are averaged like the weights, so that they belong to the averaged weights.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.state = copy_state(network)

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step` (the first is 0). Integer buffers are copied."""
        keep = min(self.decay, (1 + step) / (10 + step))
        _mix(self.state, network, 1.0 - keep)


class RunningMean:
    """Mean of a network's floating-point state over all updates, each counting the same (Izmailov et al. 2018, SWA).

    Kept as a mean that moves by (value - mean) / count, which never sums up large numbers. Batch norms' running
    statistics are averaged too: they stand for the averaged weights well enough where the weights lie close together,
    as they do over the last steps of one run, and no pass over the images is needed.
    """

    def __init__(self, network: nn.Module, *, count: int = 0, state: dict[str, Tensor] | None = None):
        """`count` and `state` take up a mean where it was left."""
        self.count = count
        self.state = copy_state(network) if state is None else state

    def update(self, network: nn.Module) -> None:
        """Take in the present weights. Integer buffers are copied."""
        self.count += 1
        _mix(self.state, network, 1.0 / self.count)


def copy_state(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, copied and detached."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def _mix(state: dict[str, Tensor], network: nn.Module, share: float) -> None:
    """Move `state` by `share` towards the network's."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            state[name].lerp_(value, share)
        else:
            state[name].copy_(value)


def _groups(
    network: Network, section: OptimSection, *, lr: float, backbone_lr: float, layer_decay: float
) -> list[dict[str, Any]]:
    """One group for each pair of scale and decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    decays = {
        id(parameter): float(group["weight_decay"])
        for group in network.parameter_groups(section.weight_decay)
        for parameter in group["params"]
    }
    depths = block_depths([name for name, _ in network.backbone.named_parameters()])
    shifts = _norm_biases(network)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            depth = depths.get(name.removeprefix("backbone."), 0) if name.startswith("backbone.") else 0
            scale = backbone_lr / lr * layer_decay ** (depth - 1) if depth else 1.0
            scale *= section.norm_lr_factor if id(parameter) in shifts else 1.0
            groups.setdefault((scale, decays[id(parameter)]), []).append(parameter)
    return [
        {"params": params, "weight_decay": decay, "scale": scale, "lr": lr * scale}
        for (scale, decay), params in groups.items()
    ]


def _align(optimizer: torch.optim.Optimizer, _args: object, _kwargs: object) -> None:
    """Bring gradients and moments into the memory layout of their weights.

    torch's fused optimizers (measured with 2.14 on a CPU) walk through memory without looking at strides: a moment that
    was read from a checkpoint, contiguous, beside a channels_last weight would silently be applied to other elements.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.ndim < 4 or parameter.grad is None:
                continue
            if parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
            state = optimizer.state[parameter]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.ndim == 4 and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter).copy_(value)


def _norm_biases(network: nn.Module) -> set[int]:
    norms = (module for module in network.modules() if isinstance(module, _NORMS))
    return {id(norm.bias) for norm in norms if isinstance(norm.bias, nn.Parameter)}
