"""What a run writes while it trains: a row an epoch, checkpoints now and then, and how training goes on from one."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from sortal.core.errors import InputError, MachineError
from sortal.train.checkpoint import SPENT_S, Checkpoint, Shelf, optimizer_tensors, restore_optimizer
from sortal.train.context import Context
from sortal.train.loop import State, Sums
from sortal.train.optim import RunningMean, copy_state
from sortal.train.precision import GradientStep
from sortal.train.schedule import Pace
from sortal.train.scores import Scores

SAVE_EVERY_S = 30.0
"""Checkpoints are not written more often, the first and a stop excepted."""


class Files:
    """Process 0 writes the row of each epoch, and checkpoints."""

    def __init__(self, context: Context, stepper: GradientStep, *, epoch_steps: int, recorded: int):
        self._context, self._stepper = context, stepper
        self._epoch_steps = epoch_steps
        self._rows = recorded
        self._saved_s = -SAVE_EVERY_S
        self._begun_s = time.monotonic()
        self._writes = context.checkpoints is not None and context.team.leads

    def due(self) -> bool:
        """True when the last checkpoint is old."""
        return self._writes and time.monotonic() - max(self._saved_s, self._begun_s) >= SAVE_EVERY_S

    def __call__(self, state: State, *, stopping: bool) -> None:
        for row in state.history[self._rows :]:
            self._context.record(row)
        self._rows = len(state.history)
        folder = self._context.checkpoints
        if folder is None or not self._writes or (not stopping and time.monotonic() - self._saved_s < SAVE_EVERY_S):
            return
        now_s = time.monotonic()
        spent_s = now_s - (self._begun_s if self._context.started_s is None else self._context.started_s)
        checkpoint = pack(state, self._stepper, epoch_steps=self._epoch_steps, spent_s=spent_s)
        Shelf(folder).save(checkpoint, best=(state.best_epoch, state.best_weights))
        self._saved_s = time.monotonic()


def restore(context: Context, state: State, stepper: GradientStep, *, epoch_steps: int) -> int:
    """Put the newest readable checkpoint of a run into `state`, where the run is being taken up again.

    Checkpoints that are passed over are removed: training makes them again. Where an epoch has another number of steps
    than before, because images were added or removed, the epoch under way begins anew. Returns how many rows of the
    history are in `metrics.jsonl` for certain: the file is written anew up to there.
    """
    if not context.resuming or context.checkpoints is None:
        return 0
    shelf = Shelf(context.checkpoints)
    found = shelf.newest(say=context.listener.say)
    if found is None:
        context.listener.say("there is no checkpoint to go on from, so training starts at the beginning")
    else:
        unpack(found.checkpoint, found.best, state, stepper)
        before = int(found.checkpoint.progress["epoch_steps"])
        if before != epoch_steps:
            _other_epochs(state, before, epoch_steps)
        context.listener.say(f"going on after step {state.step}, {len(state.history)} whole epochs")
    _check_together(context, state)
    if context.team.leads:
        shelf.forget_after(found)
    context.keep_rows(state.history)
    return len(state.history)


def _other_epochs(state: State, before: int, now: int) -> None:
    epochs = len(state.history)
    state.step, state.sums = epochs * now, Sums()
    state.pace = Pace(total=max(state.step, round(state.pace.total / before * now)))


def _check_together(context: Context, state: State) -> None:
    """Every process has to read the same checkpoint; waiting for all, nothing is removed that one still reads."""
    step = int(context.team.tell(state.step))
    if context.team.any(step != state.step):
        raise MachineError(
            "the training processes found different checkpoints",
            where=str(context.checkpoints),
            received=f"step {state.step} here, step {step} in process 0",
            hint="all of them have to see the folder of the run",
        )


def pack(state: State, stepper: GradientStep, *, epoch_steps: int, spent_s: float) -> Checkpoint:
    """Everything that going on needs, apart from what the recipe, the plan and the images give again.

    `spent_s` is how long the command has run, earlier parts of the run counted.
    """
    progress = {
        "step": state.step,
        "pace": asdict(state.pace),
        "best_epoch": state.best_epoch,
        "best": None if state.best is None else asdict(state.best),
        "history": state.history,
        "sums": asdict(state.sums),
        "averaged": 0 if state.mean is None else state.mean.count,
        "epoch_steps": epoch_steps,
        SPENT_S: spent_s,
        "stepper": stepper.state(),
    }
    weights: dict[str, Tensor] = dict(copy_state(state.network))
    for name, kept in (("average", state.average), ("mean", state.mean)):
        if kept is not None:
            weights |= {f"{name}.{key}": value for key, value in kept.state.items()}
    weights |= {f"gradient.{key}": value.detach().clone() for key, value in stepper.gradients(state.network).items()}
    if state.beside is not None:
        weights |= {f"beside.{key}": value.detach().clone() for key, value in state.beside.state_dict().items()}
        summed = stepper.gradients(state.beside)
        weights |= {f"beside_gradient.{key}": value.detach().clone() for key, value in summed.items()}
    return Checkpoint(weights=weights, moments=optimizer_tensors(state.optimizer), progress=_written(progress))


def unpack(checkpoint: Checkpoint, best: dict[str, Tensor], state: State, stepper: GradientStep) -> None:
    """The opposite of `pack`. Raises InputError when the checkpoint is of another network."""
    names = state.network.state_dict().keys()
    progress: dict[str, Any] = _read(dict(checkpoint.progress))
    try:
        state.network.load_state_dict({name: checkpoint.weights[name] for name in names})
        restore_optimizer(state.optimizer, checkpoint.moments)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"the checkpoint does not fit the network: {error}") from error
    state.step, state.pace = progress["step"], Pace(**progress["pace"])
    state.best_epoch, state.best_weights = progress["best_epoch"], best
    state.best = None if progress["best"] is None else Scores(**progress["best"])
    state.history, state.sums = list(progress["history"]), Sums(**progress["sums"])
    state.sums.started_s = time.monotonic() - sum((state.sums.data_s, state.sums.forward_s, state.sums.backward_s))
    stepper.load(progress["stepper"])
    stepper.load_gradients(state.network, _part(checkpoint, "gradient"))
    if state.beside is not None:
        state.beside.load_state_dict(_part(checkpoint, "beside"))
        stepper.load_gradients(state.beside, _part(checkpoint, "beside_gradient"))
    where = next(state.network.parameters()).device
    if state.average is not None:
        state.average.state = _on(where, _part(checkpoint, "average"))
    if progress["averaged"]:
        kept = _on(where, _part(checkpoint, "mean"))
        state.mean = RunningMean(state.network, count=progress["averaged"], state=kept)


def _on(where: torch.device, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(where) for name, value in tensors.items()}


def _written(value: Any) -> Any:
    """JSON knows no NaN and no infinity, and a validation loss may be one."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _written(part) for key, part in value.items()}
    return [_written(part) for part in value] if isinstance(value, list | tuple) else value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _read(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_read(part) for part in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _part(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in checkpoint.weights.items() if key.startswith(prefix)}
