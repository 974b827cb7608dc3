"""What training on several processes and on CUDA devices needs around the loop: norms over the whole batch, matrix
units, and the sentences that say so in the run's log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sortal.train.team import Team

_AMPERE = (8, 0)
"""The first compute capability with TF32 and bfloat16 matrix units: A100, RTX 30 and all later ones."""


def team_notes(team: Team, *, asked: str, batch: int, frozen_statistics: bool) -> tuple[str, ...]:
    """How the work is divided, where it is or was asked to be; `asked` is `train.parallel`, `batch` images a step."""
    notes = []
    if asked == "dp":
        notes.append(
            "warning: train.parallel=dp (DataParallel: one process for all devices) is slow and deprecated; it means "
            "ddp here, one process a device."
        )
    if team.size == 1:
        if asked != "none":
            notes.append("One process trains; more are started by: torchrun --nproc-per-node N -m sortal train ...")
        return tuple(notes)
    notes.append(
        f"{team.size} processes train together ({team.backend}): each takes its share of the {batch} images of a step, "
        "and gradients are averaged. The learning rate is that of the whole batch; it is not scaled by processes."
    )
    if not frozen_statistics:
        notes.append(
            "Batch norms use the statistics of the whole batch (SyncBatchNorm)."
            if torch.cuda.is_available()
            else "Batch norms use the statistics of each process's share of a batch (SyncBatchNorm needs CUDA)."
        )
    return tuple(notes)


@contextmanager
def synchronized_norms(network: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Inside, where `wanted`, batch norms take their statistics from the batches of all processes together.

    Weights and their names stay the same. Afterwards the network has its own modules again, for export.
    """
    if not wanted:
        yield
        return
    from timm.layers.norm_act import convert_sync_batchnorm  # torch's own would lose the activation of timm's norms

    before = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for name, module in before.items():
            _put_back(network, name, module)


def _put_back(network: nn.Module, name: str, module: _BatchNorm) -> None:
    parent, _, child = name.rpartition(".")
    synchronized = network.get_submodule(name)
    module.train(synchronized.training)
    for key, buffer in synchronized.named_buffers(recurse=False):
        module.register_buffer(key, buffer)
    setattr(network.get_submodule(parent), child, module)


@contextmanager
def matrix_units() -> Iterator[str | None]:
    """Inside, float32 products and convolutions use TF32 on Ampere and newer; yields the sentence about it.

    None where there is no such device.
    """
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < _AMPERE:
        yield None
        return
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = products.fp32_precision, convolutions.fp32_precision
    products.fp32_precision = convolutions.fp32_precision = "tf32"
    try:
        yield f"{torch.cuda.get_device_name()}: TF32 is on, and bfloat16 is at hand (train.precision=bf16)."
    finally:
        products.fp32_precision, convolutions.fp32_precision = before
