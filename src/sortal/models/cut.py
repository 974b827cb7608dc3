"""Backbones with fewer channels than their architecture has: what a bundle records of that, and the surgery on loading.

A pruned network is dense; nothing but its widths tells it from the published one. They are recorded as the new shapes
of those tensors that shrank, and a backbone of the architecture is cut down to them before its weights are loaded. So
nothing that cut it is needed to open it, and every number of a file is checked against the architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sortal.core.errors import WeightsError

Cut = Mapping[str, tuple[int | None, ...]]
"""Name of a parameter or buffer in the backbone -> its shape; None where a dimension is the architecture's own."""


def cut_of(whole: nn.Module, state: Mapping[str, Tensor]) -> dict[str, tuple[int | None, ...]]:
    """What makes a backbone with the tensors `state` of the `whole` one; only shapes are looked at."""
    found = dict[str, tuple[int | None, ...]]()
    for name, tensor in whole.state_dict().items():
        if tensor.shape != state[name].shape:
            pairs = zip(state[name].shape, tensor.shape, strict=True)
            found[name] = tuple(None if mine == theirs else mine for mine, theirs in pairs)
    return found


def shrink(backbone: nn.Module, cut: Cut, *, architecture: str) -> None:
    """Cut a backbone down, in place; the first channels of every tensor stay, until weights are loaded.

    Raises WeightsError where a tensor does not exist or would not become smaller.
    """
    full: dict[str, Tensor] = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    for name, shape in cut.items():
        tensor = full.get(name)
        if tensor is None or not _smaller(shape, tuple(tensor.shape)):
            raise WeightsError(
                f"the recorded widths are none of {architecture}",
                where=name,
                received=f"{list(shape)}, of {'nothing' if tensor is None else list(tensor.shape)}",
                hint="the bundle was made by another version of that architecture (see its manifest)",
            )
        owner, leaf = _owner(backbone, name)
        kept = tensor.detach()[tuple(slice(size) for size in shape)].clone()
        if isinstance(tensor, nn.Parameter):
            setattr(owner, leaf, nn.Parameter(kept, requires_grad=tensor.requires_grad))
        else:
            owner.register_buffer(leaf, kept, persistent=leaf not in owner._non_persistent_buffers_set)
    for owner in {_owner(backbone, name)[0] for name in cut}:
        _state_widths(owner)
    _state_heads(backbone.modules())


def _smaller(shape: tuple[int | None, ...], full: tuple[int, ...]) -> bool:
    return len(shape) == len(full) and all(
        size is None or 1 <= size <= most for size, most in zip(shape, full, strict=True)
    )


def _owner(backbone: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return backbone.get_submodule(path), leaf


def _state_widths(module: nn.Module) -> None:
    """Make a layer say the widths that its tensors have; custom layers of an architecture read them off."""
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.Conv2d):
        if module.groups == module.in_channels and module.groups > 1:  # depthwise: a group is a channel
            module.groups = weight.shape[0] // (module.out_channels // module.groups)
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.num_features = len(module.running_mean) if weight is None else len(weight)  # type: ignore[arg-type]
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.GroupNorm):
        module.num_channels = len(weight)


def _state_heads(modules: Iterable[nn.Module]) -> None:
    """An attention keeps the width of its heads: fewer rows of query, key and value are fewer heads."""
    for module in modules:
        if not hasattr(module, "attn_dim") or not isinstance(getattr(module, "qkv", None), nn.Linear):
            continue
        attention: Any = module
        width = attention.qkv.weight.shape[0] // 3
        if width != attention.attn_dim:
            attention.num_heads, attention.attn_dim = width // attention.head_dim, width


@torch.no_grad()
def kept_part(state: Mapping[str, Tensor], kept: Mapping[str, Mapping[int, Tensor]]) -> dict[str, Tensor]:
    """A state dict with, for some tensors and dimensions, only the positions that are kept (ascending indices)."""
    found = dict(state)
    for name, dimensions in kept.items():
        for dimension, places in dimensions.items():
            found[name] = found[name].index_select(dimension, places)
    return found
