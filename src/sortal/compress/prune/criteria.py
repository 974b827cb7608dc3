"""Which channels are worth least: three criteria, each one number a channel, larger for what should stay.

- `l1`: the sum of absolute weights of the filters that give the channel (Li et al. 2017, "Pruning filters for efficient
  ConvNets").
- `group`: the squared weights of all layers that share the channel, givers, takers and norms (Fang et al. 2023).
- `taylor`: weight times gradient of the loss on training images, over the same layers: what the loss would change by in
  first order (Molchanov et al. 2019, "Importance estimation for neural network pruning").

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sortal.compress.prune.channels import Anatomy, ChannelSet
from sortal.models.network import Network

Criterion = Literal["l1", "taylor", "group"]
Scores = tuple[NDArray[np.float64], ...]
"""One array a set, one number a channel (one a channel of a fold, where there are folds)."""


def score_channels(
    network: Network, found: Anatomy, criterion: Criterion, batches: Iterable[tuple[Tensor, Tensor]] = ()
) -> Scores:
    """The scores of all sets. `batches` are training images (N, C, H, W) with labels (N,), for `taylor`."""
    raw: Sequence[NDArray[np.float64]]
    if criterion == "l1":
        raw = [_l1(network.backbone, one) for one in found.sets]
    else:
        raw = _by_torch_pruning(network, found, criterion, batches)
    return tuple(_folded(scores, one.fold) for scores, one in zip(raw, found.sets, strict=True))


def least(scores: NDArray[np.float64], fold: int, count: int) -> frozenset[int]:
    """The channels with the `count` smallest scores, of equal ones those that come first, in every fold."""
    chosen = np.argsort(scores, kind="stable")[:count]
    return frozenset(int(channel + part * len(scores)) for channel in chosen for part in range(fold))


def _folded(scores: NDArray[np.float64], fold: int) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = scores.reshape(fold, -1).mean(axis=0)
    return mean


def _l1(backbone: nn.Module, channels: ChannelSet) -> NDArray[np.float64]:
    modules = dict(backbone.named_modules())
    sums = np.zeros(channels.count)
    for slot in channels.slots:
        layer = modules.get(slot.name)
        if slot.axis == "out" and isinstance(layer, nn.Conv2d | nn.Linear):
            norms = layer.weight.detach().double().abs().flatten(1).sum(1).numpy()
            np.add.at(sums, np.array(slot.channels), norms[np.array(slot.places)])
    return sums


def _by_torch_pruning(
    network: Network, found: Anatomy, criterion: Criterion, batches: Iterable[tuple[Tensor, Tensor]]
) -> Sequence[NDArray[np.float64]]:
    from torch_pruning.pruner.importance import GroupMagnitudeImportance, GroupTaylorImportance

    if criterion == "taylor":
        _take_gradients(network, batches)
        measure = GroupTaylorImportance(normalizer=None)
    else:
        measure = GroupMagnitudeImportance(p=2, normalizer=None)
    scores = [
        np.zeros(one.count) if (seen := measure(group)) is None else seen.double().numpy()
        for one, group in zip(found.sets, found.groups, strict=True)
    ]
    for parameter in network.parameters():
        parameter.grad = None
    return scores


def _take_gradients(network: Network, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Gradients of the labels' loss, summed over the batches, statistics of norms as they are."""
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_()
        parameter.grad = torch.zeros_like(parameter)
    network.pooling.slack = 1e-6
    try:
        for images, labels in batches:
            loss = nn.functional.cross_entropy(network(images)[0], labels, reduction="sum")
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        network.pooling.slack = 0.0
