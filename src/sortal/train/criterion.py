"""The loss of one training step: forward pass, every branch of the head, and a teacher where there is one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sortal.models.network import Network
from sortal.train.distill import DistillLoss
from sortal.train.loader import Batch
from sortal.train.loop import Criterion
from sortal.train.losses import Loss
from sortal.train.team import Team
from sortal.train.unlabelled import Beside

BRANCH_WEIGHT = 0.3
"""Of the loss of each auxiliary branch, beside the loss of the fused logits."""


class Forward(nn.Module):
    """What training needs from a network in one call, so that it can be wrapped and compiled.

    (N, C, H, W) to all logits that get a loss, (N, K) each, the network's answer first, and the embedding (N, D).
    """

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        return self.network.training_outputs(images)


class Wrapped:
    """The module that a step calls for a network: compiled where that pays, averaging gradients over a team.

    What learns changes between phases, and both wrappers look at that when they are made: `forget` makes them anew.
    """

    def __init__(self, team: Team, *, compiled: bool):
        self._team, self._compiled = team, compiled
        self._module: nn.Module | None = None

    def forget(self) -> None:
        """Make the wrappers anew at the next call."""
        self._module = None

    def __call__(self, network: Network) -> nn.Module:
        if self._module is None:
            self._module = self._wrap(Forward(network))
        return self._module

    def _wrap(self, module: nn.Module) -> nn.Module:
        if self._team.size > 1:
            return DistributedDataParallel(module)
        return torch.compile(module) if self._compiled else module  # type: ignore[return-value]


def make_criterion(
    loss: Loss, teaching: DistillLoss | None, forward: Wrapped, *, altered: bool, beside: Beside | None = None
) -> Criterion:
    """The loss of a step as the loop calls it. `altered`: images are mixed or erased after augmentation. `beside` has
    images without labels, which the teacher alone says something about."""

    def with_unlabelled(network: Network, images: Tensor, targets: Tensor, batch: Batch) -> Tensor:
        assert teaching is not None
        assert beside is not None
        everything, labelled = torch.cat([images, beside.images(batch, images)]), len(images)
        (logits, *branches), embedding = forward(network)(everything)
        hard = loss(logits[:labelled], targets)
        for branch in branches:
            hard = hard + BRANCH_WEIGHT * loss(branch[:labelled], targets)
        with torch.autocast(images.device.type, enabled=False):
            total: Tensor = teaching(hard, logits, embedding, everything, batch.samples)
        return total

    def criterion(network: Network, images: Tensor, targets: Tensor, batch: Batch) -> Tensor:
        (logits, *branches), embedding = forward(network)(images)
        total = loss(logits, targets)
        for branch in branches:
            total = total + BRANCH_WEIGHT * loss(branch, targets)
        if teaching is not None:
            seen = images if altered else batch.pixels  # the teacher looks at what the student sees
            with torch.autocast(images.device.type, enabled=False):
                total = teaching(total, logits, embedding, seen, batch.samples)
        return total

    return criterion if beside is None or teaching is None else with_unlabelled
