"""What a run writes while it trains: a row an epoch, checkpoints now and then, and how training goes on from one."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from typing import Any

from torch import Tensor

from sortal.core.errors import InputError
from sortal.train.checkpoint import Checkpoint, Shelf, optimizer_tensors, restore_optimizer
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

    def __init__(self, context: Context, stepper: GradientStep, *, recorded: int):
        self._context, self._stepper = context, stepper
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
        Shelf(folder).save(pack(state, self._stepper), best=(state.best_epoch, state.best_weights))
        self._saved_s = time.monotonic()


def restore(context: Context, state: State, stepper: GradientStep) -> int:
    """Put the newest readable checkpoint of a run into `state`, where the run is being taken up again.

    Returns how many rows of the history are in `metrics.jsonl` for certain: the file is written anew up to there.
    """
    if not context.resuming or context.checkpoints is None:
        return 0
    found = Shelf(context.checkpoints).newest(say=context.listener.say)
    if found is None:
        context.listener.say("there is no checkpoint yet, so training starts at the beginning")
        context.keep_rows([])
        return 0
    unpack(found.checkpoint, found.best, state, stepper)
    context.listener.say(f"going on after step {state.step}, {len(state.history)} whole epochs")
    context.keep_rows(state.history)
    return len(state.history)


def tidy(context: Context) -> None:
    """Checkpoints of a finished run are not needed any more; those of an interrupted one are what one goes on from."""
    if context.checkpoints is not None and context.team.leads:
        shutil.rmtree(context.checkpoints, ignore_errors=True)


def pack(state: State, stepper: GradientStep) -> Checkpoint:
    """Everything that going on needs, apart from what the recipe, the plan and the images give again."""
    progress = {
        "step": state.step,
        "pace": asdict(state.pace),
        "best_epoch": state.best_epoch,
        "best": None if state.best is None else asdict(state.best),
        "history": state.history,
        "sums": asdict(state.sums),
        "averaged": 0 if state.mean is None else state.mean.count,
        "stepper": stepper.state(),
    }
    weights: dict[str, Tensor] = dict(copy_state(state.network))
    for name, kept in (("average", state.average), ("mean", state.mean)):
        if kept is not None:
            weights |= {f"{name}.{key}": value for key, value in kept.state.items()}
    weights |= {f"gradient.{key}": value.detach().clone() for key, value in stepper.gradients(state.network).items()}
    if state.beside is not None:
        weights |= {f"beside.{key}": value.detach().clone() for key, value in state.beside.state_dict().items()}
    return Checkpoint(weights=weights, moments=optimizer_tensors(state.optimizer), progress=progress)


def unpack(checkpoint: Checkpoint, best: dict[str, Tensor], state: State, stepper: GradientStep) -> None:
    """The opposite of `pack`. Raises InputError when the checkpoint is of another network."""
    names = state.network.state_dict().keys()
    progress: dict[str, Any] = dict(checkpoint.progress)
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
    if state.average is not None:
        state.average.state = _part(checkpoint, "average")
    if progress["averaged"]:
        state.mean = RunningMean(state.network)
        state.mean.count, state.mean.state = progress["averaged"], _part(checkpoint, "mean")


def _part(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in checkpoint.weights.items() if key.startswith(prefix)}
