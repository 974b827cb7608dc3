"""The largest batch that a training step has memory for. A larger effective batch is what `optim.accumulate` is for."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sortal.core.errors import MachineError
from sortal.models.network import Network
from sortal.train.precision import Mode

_MEMINFO = Path("/proc/meminfo")
_KEPT_FREE = 0.5
"""Share of the free memory that is left to images, the operating system and others."""
_WORKSPACE = 2.0
"""A step's peak over what the forward pass keeps for the backward pass: gradients of activations, and workspace."""
_STATES = 4
"""Copies of the weights: themselves, gradients, and two moments."""


def find_batch(
    network: Network,
    size: tuple[int, int],
    *,
    channels: int = 3,
    mode: Mode | None = None,
    low: int = 8,
    high: int = 1024,
    free_bytes: int | None = None,
) -> int:
    """The largest of `low`, 2 `low`, 4 `low`, ... up to `high` that a step at `size` (height, width) has memory for.

    On CUDA by trying, until memory runs out. On a CPU, where running out ends the process, by what a step of two
    images keeps for its backward pass against half of `free_bytes` (None: what the system says is available). `network`
    stays as it is. Raises MachineError when not even `low` images fit.
    """
    mode = mode or Mode()
    candidates = [low << doubling for doubling in range(max(1, (high // low).bit_length()))]
    copied = copy.deepcopy(network).to(memory_format=mode.memory_format).train()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if mode.device == "cuda" else []):
        if mode.device == "cuda":
            fitting = _by_trying(copied, candidates, (channels, *size), mode)
        else:
            fitting = _by_estimate(copied, candidates, (channels, *size), mode, free_bytes)
    if not fitting:
        raise MachineError(
            f"there is no memory for a training step of {low} images of {size[1]}x{size[0]} px",
            hint="use a smaller input.size, a smaller network or train.precision=amp",
        )
    return fitting[-1]


def _by_estimate(
    network: Network, candidates: list[int], shape: tuple[int, int, int], mode: Mode, free_bytes: int | None
) -> list[int]:
    free = _available_bytes() if free_bytes is None else free_bytes
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    image = _kept_bytes(network, torch.zeros(2, *shape), mode) / 2 * _WORKSPACE
    return [batch for batch in candidates if batch * image + _STATES * weights <= _KEPT_FREE * free]


def _kept_bytes(network: Network, images: Tensor, mode: Mode) -> int:
    """Bytes that a forward pass of `images` keeps for its backward pass; weights do not count."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), mode.autocast():
        network(images.contiguous(memory_format=mode.memory_format))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _by_trying(network: Network, candidates: list[int], shape: tuple[int, int, int], mode: Mode) -> list[int]:
    fitting = []
    for batch in candidates:
        try:
            images = torch.zeros(batch, *shape, device=mode.device).contiguous(memory_format=mode.memory_format)
            with mode.autocast():
                loss = network(images)[0].float().square().mean()
            loss.backward()
        except torch.OutOfMemoryError:
            break
        finally:
            torch.cuda.empty_cache()
        fitting.append(batch)
    return fitting


def _available_bytes() -> int:
    """What Linux says can be used without swapping; elsewhere 4 GiB, as a careful guess."""
    if not _MEMINFO.exists():
        return 4 << 30
    lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
