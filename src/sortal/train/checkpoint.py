"""Checkpoints: the weights, the optimizer's moments and how far training is, published whole or not at all.

Randomness needs no saving (see `randomness`), so this is all that going on needs. No pickle: safetensors and JSON, with
a checksum of every file. A `Shelf` keeps the last two checkpoints: a damaged one costs an interval and not a run.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sortal.core.canonical import parse, pretty
from sortal.core.errors import InputError, MachineError
from sortal.core.publish import disk_errors, machine_error, publish_folder, sweep

SPENT_S = "spent_s"
"""In `progress`: how long the run had taken until then, which a time budget has to know."""

_FORMAT = 3
_PARTS = ("weights.safetensors", "moments.safetensors", "progress.json")
_MANIFEST = "manifest.json"
_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A moment of training. `progress` holds plain numbers: step, epoch, pace, best metric, history."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    """The optimizer's tensors as `<parameter number>.<name>`."""
    progress: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A checkpoint to go on from, and the best weights until then (empty where there were none)."""

    checkpoint: Checkpoint
    best: dict[str, Tensor]


class Shelf:
    """A folder of checkpoints `step-<number>` and of the best weights that they refer to, `best-<epoch>`."""

    def __init__(self, folder: Path):
        self._folder = folder

    def save(self, checkpoint: Checkpoint, *, best: tuple[int, Mapping[str, Tensor]]) -> None:
        """Add a checkpoint and forget the oldest. Raises MachineError when the disk refuses; then the last one stays.

        The best weights are written before the checkpoint that refers to them.
        """
        epoch, weights = best
        kept = self._folder / f"best-{epoch}"
        if weights and not kept.exists():
            save(Checkpoint(weights=weights, moments={}, progress={"epoch": epoch}), kept)
        save(checkpoint, self._folder / f"step-{checkpoint.progress['step']}")
        self._forget()

    def newest(self, *, say: Callable[[str], None]) -> Found | None:
        """The newest checkpoint that is whole, None where there is none. Damaged ones are said and passed over."""
        for path in reversed(self._steps()):
            try:
                checkpoint = load(path)
                kept = self._folder / f"best-{checkpoint.progress['best_epoch']}"
                best = dict(load(kept).weights) if kept.exists() or checkpoint.progress["best"] is not None else {}
            except (InputError, MachineError) as error:
                say(f"warning: a checkpoint cannot be used, so the one before is taken: {error}")
                continue
            return Found(checkpoint=checkpoint, best=best)
        return None

    def spent_s(self) -> float:
        """How long the run had taken at the newest checkpoint; 0 where there is none. Later work is done again."""
        found = [float(progress[SPENT_S]) for path in self._steps() if (progress := _progress(path)) is not None]
        return found[-1] if found else 0.0

    def forget_after(self, found: Found | None) -> None:
        """Remove what is newer than `found`, which could not be used, and what a process that was killed left."""
        step, epoch = (-1, -1) if found is None else (_number(found.checkpoint, "step"), _best_of(found))
        for path in self._steps():
            if int(path.name.removeprefix("step-")) > step:
                shutil.rmtree(path, ignore_errors=True)
        for path in self._folder.glob("best-*"):
            if not path.name.removeprefix("best-").isdigit() or int(path.name.removeprefix("best-")) > epoch:
                shutil.rmtree(path, ignore_errors=True)
        sweep(self._folder)

    def _steps(self) -> list[Path]:
        with disk_errors(self._folder):
            found = [path for path in self._folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def _forget(self) -> None:
        steps = self._steps()
        for path in steps[:-_KEPT]:
            shutil.rmtree(path, ignore_errors=True)
        known = [progress for path in steps[-_KEPT:] if (progress := _progress(path)) is not None]
        if len(known) < len(steps[-_KEPT:]):
            return  # what one of them refers to is not known
        wanted = {f"best-{progress['best_epoch']}" for progress in known}
        with disk_errors(self._folder):
            unwanted = [path for path in self._folder.glob("best-*") if path.name not in wanted]
        for path in unwanted:
            shutil.rmtree(path, ignore_errors=True)


def save(checkpoint: Checkpoint, target: Path) -> None:
    """Publish `checkpoint` as the folder `target`, replacing the last. Raises MachineError when the disk refuses."""
    from safetensors.torch import save as encode

    progress = pretty({"format": _FORMAT, **checkpoint.progress}).encode()
    raw = (encode(_plain(checkpoint.weights)), encode(_plain(checkpoint.moments)), progress)

    def write(folder: Path) -> None:
        for name, data in zip(_PARTS, raw, strict=True):
            (folder / name).write_bytes(data)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in zip(_PARTS, raw, strict=True)}
        (folder / _MANIFEST).write_bytes(pretty(sums).encode())

    publish_folder(target, write, replace=True)


def load(source: Path) -> Checkpoint:
    """Read a folder that `save` made. Raises InputError when it is absent, damaged or of another format."""
    from safetensors import SafetensorError
    from safetensors.torch import load as decode

    try:
        raw = [(source / name).read_bytes() for name in _PARTS]
        listed = (source / _MANIFEST).read_bytes()
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in zip(_PARTS, raw, strict=True)}
        if listed != pretty(sums).encode():
            raise InputError("the checkpoint is damaged: its files are not those that were written", where=str(source))
        weights, moments = decode(raw[0]), decode(raw[1])
        progress = parse(raw[2], where=str(source))
    except FileNotFoundError as error:
        raise InputError("there is no whole checkpoint here", where=str(source)) from error
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
    return {
        f"{number}.{name}": value
        for number, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took; rates and groups stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _progress(path: Path) -> dict[str, Any] | None:
    """Of a checkpoint, without its tensors; None where it cannot be read."""
    try:
        progress = parse((path / "progress.json").read_bytes(), where=str(path))
    except (InputError, OSError):
        return None
    return progress if isinstance(progress, dict) and progress.get("format") == _FORMAT else None


def _number(checkpoint: Checkpoint, name: str) -> int:
    return int(checkpoint.progress[name])


def _best_of(found: Found) -> int:
    return _number(found.checkpoint, "best_epoch") if found.best else -1


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
