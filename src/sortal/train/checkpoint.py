"""Checkpoints: the weights, the optimizer's moments and how far training is, published whole or not at all.

Randomness needs no saving (see `randomness`), so this is all that going on needs. No pickle: safetensors and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sortal.core.canonical import parse, pretty
from sortal.core.errors import InputError
from sortal.core.publish import machine_error, publish_folder

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A moment of training. `progress` holds plain numbers: step, epoch, pace, best metric, digests."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    """The optimizer's tensors as `<parameter number>.<name>`."""
    progress: Mapping[str, Any]


def save(checkpoint: Checkpoint, target: Path) -> None:
    """Publish `checkpoint` as the folder `target`, replacing the last. Raises MachineError when the disk refuses."""
    from safetensors.torch import save as encode

    def write(folder: Path) -> None:
        (folder / "weights.safetensors").write_bytes(encode(_plain(checkpoint.weights)))
        (folder / "moments.safetensors").write_bytes(encode(_plain(checkpoint.moments)))
        text = pretty({"format": _FORMAT, **checkpoint.progress})
        (folder / "progress.json").write_text(text, encoding="utf-8")

    publish_folder(target, write, replace=True)


def load(source: Path) -> Checkpoint:
    """Read a folder that `save` made. Raises InputError when it is absent, damaged or of another format."""
    from safetensors import SafetensorError
    from safetensors.torch import load as decode

    try:
        progress = parse((source / "progress.json").read_bytes(), where=str(source))
        weights, moments = (decode((source / f"{part}.safetensors").read_bytes()) for part in ("weights", "moments"))
    except FileNotFoundError as error:
        raise InputError("there is no checkpoint here", where=str(source)) from error
    except OSError as error:
        raise machine_error(error, source) from error
    except SafetensorError as error:
        raise InputError(f"the checkpoint is damaged: {error}", where=str(source)) from error
    if not isinstance(progress, dict) or progress.pop("format", None) != _FORMAT:
        raise InputError("a checkpoint of an unknown format", where=str(source))
    return Checkpoint(weights=weights, moments=moments, progress=progress)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, flat."""
    state: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took; rates and groups stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in tensors.items()}
