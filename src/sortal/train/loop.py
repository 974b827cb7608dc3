"""The loop: epochs of steps, validation, the best and the last state kept, and an honest row for every epoch.

It knows batches, a network and numbers; files are written through `keep`, and what a run is made of is `fit`'s
business.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sortal.core.errors import RecipeError
from sortal.core.progress import Listener, duration
from sortal.core.recipe import Recipe
from sortal.models.network import Network
from sortal.train.loader import Batch, TrainLoader
from sortal.train.losses import cross_entropy
from sortal.train.optim import Average, clip, copy_state, set_rate
from sortal.train.randomness import torch_randomness
from sortal.train.schedule import Pace, rate_at
from sortal.train.scores import Scores
from sortal.train.stopping import Budget, StopFlag

Stopped = Literal["done", "early", "time", "interrupted"]
Row = dict[str, Any]

_REFIT_STEPS = 20
"""How often the budget is looked at within an epoch."""


@dataclass(kw_only=True)
class State:
    """What changes while training: together with the weights, all that a checkpoint needs."""

    network: Network
    optimizer: torch.optim.Optimizer
    pace: Pace
    average: Average | None = None
    step: int = 0
    best: Scores | None = None
    best_epoch: int = 0
    """0 is the state before the first epoch."""
    best_weights: Mapping[str, Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)


class Keeper(Protocol):
    """Puts rows and checkpoints where they last."""

    def __call__(self, state: State, *, stopping: bool) -> None:
        """`stopping`: there will be no later call, so everything has to be written now."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same while training."""

    recipe: Recipe
    lr: float
    bf16: bool
    loader: TrainLoader
    budget: Budget
    stop: StopFlag
    validate: Callable[[Network], Scores] | None
    """None where there are no validation images: then the last state is the best."""
    keep: Keeper
    """Called after every epoch, and when training is asked to stop."""
    listener: Listener
    clock: Callable[[], float] = time.monotonic


@dataclass(kw_only=True)
class _Epoch:
    """Sums over the steps of one epoch; times in seconds."""

    started_s: float
    steps: int = 0
    images: int = 0
    loss: float = 0.0
    norm: float = 0.0
    data_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    step_s: float = 0.0


def run(state: State, job: Job) -> Stopped:
    """Train until the last step, the deadline, a stop signal, or `patience` epochs without a better validation metric.

    Leaves the best weights in `state.best_weights`. Raises RecipeError when the loss or the gradient is not a number.
    """
    while state.step < state.pace.total:
        epoch, first = divmod(state.step, job.loader.steps)
        sums = _run_epoch(state, job, epoch, first)
        if job.stop.requested:
            return _interrupted(state, job)
        if sums.steps:
            _finish_epoch(state, job, epoch + 1, sums)
        if job.validate is not None and epoch + 1 - state.best_epoch >= job.recipe.train.patience:
            return "early"
    return "time" if job.budget.deadline_s is not None and state.step != job.budget.wanted else "done"


def _run_epoch(state: State, job: Job, epoch: int, first: int) -> _Epoch:
    sums = _Epoch(started_s=job.clock())
    state.network.train()
    before_s = job.clock()
    for batch in job.loader.epoch(epoch, first_step=first):
        ready_s = job.clock()
        _train_step(state, job, batch, sums, epoch)
        done_s = job.clock()
        sums.data_s += ready_s - before_s
        job.budget.add(done_s - before_s)
        before_s = done_s
        if state.step % _REFIT_STEPS == 0 or job.budget.steps == 3:
            state.pace = job.budget.refit(state.pace, state.step)
        if job.stop.requested or state.step >= state.pace.total:
            break
    return sums


def _train_step(state: State, job: Job, batch: Batch, sums: _Epoch, epoch: int) -> None:
    """One step. The rate is that of the step's beginning; randomness inside the network comes from its number."""
    started_s = job.clock()
    set_rate(state.optimizer, _rate(state, job))
    state.optimizer.zero_grad(set_to_none=True)
    with torch_randomness(job.recipe.seed, "step", index=state.step), _precision(job):
        logits = state.network(batch.images)[0]
    loss = cross_entropy(logits, batch.targets, smoothing=job.recipe.loss.smoothing)
    value = loss.item()
    _check_number(value, "loss", state, job, epoch)
    forward_s = job.clock()
    loss.backward()  # type: ignore[no-untyped-call]
    backward_s = job.clock()
    norm = clip(state.network.parameters(), job.recipe.optim.clip)
    _check_number(norm, "gradient", state, job, epoch)
    state.optimizer.step()
    if state.average is not None:
        state.average.update(state.network, state.step)
    state.step += 1
    ended_s = job.clock()
    sums.steps += 1
    sums.images += len(batch.samples)
    sums.loss, sums.norm = sums.loss + value, sums.norm + norm
    sums.forward_s += forward_s - started_s
    sums.backward_s += backward_s - forward_s
    sums.step_s += ended_s - backward_s


def _rate(state: State, job: Job) -> float:
    return rate_at(state.pace.at(state.step), base=job.lr, warmup=job.recipe.schedule.warmup)


def _precision(job: Job) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=job.bf16)


def _check_number(value: float, what: str, state: State, job: Job, epoch: int) -> None:
    if not math.isfinite(value):
        raise RecipeError(
            f"training diverged: the {what} is not a finite number at step {state.step} (epoch {epoch + 1})",
            where="optim.lr",
            received=f"{job.lr:g}, at this step {_rate(state, job):.3g}",
            hint=f"lower it, for example optim.lr={job.lr / 10:.2g}",
        )


def _finish_epoch(state: State, job: Job, epoch: int, sums: _Epoch) -> None:
    started_s = job.clock()
    scores, weights = _evaluate(state, job)
    job.budget.eval_s = job.clock() - started_s
    better = scores is None or scores.better(state.best, job.recipe.train.metric)
    if better:
        state.best, state.best_epoch, state.best_weights = scores, epoch, weights
    row = _row(state, job, epoch, sums, scores)
    state.history.append(row)
    state.pace = job.budget.refit(state.pace, state.step)
    job.keep(state, stopping=False)
    job.listener.say(_sentence(row, state, job))


def _evaluate(state: State, job: Job) -> tuple[Scores | None, dict[str, Tensor]]:
    """Scores and a copy of the weights that earned them: the averaged ones where there is an average."""
    raw = copy_state(state.network)
    if state.average is None:
        return (job.validate(state.network) if job.validate else None), raw
    state.network.load_state_dict(state.average.state)
    scores = job.validate(state.network) if job.validate else None
    averaged = copy_state(state.network)
    state.network.load_state_dict(raw)
    return scores, averaged


def _interrupted(state: State, job: Job) -> Stopped:
    """Where no epoch was finished, the present state is all there is."""
    if not state.best_weights:
        state.best_weights = copy_state(state.network)
    job.keep(state, stopping=True)
    return "interrupted"


def _row(state: State, job: Job, epoch: int, sums: _Epoch, scores: Scores | None) -> Row:
    train_s = job.clock() - sums.started_s - job.budget.eval_s
    row: Row = {
        "epoch": epoch,
        "step": state.step,
        "steps": state.pace.total,
        "lr": _rate(state, job),
        "train_loss": sums.loss / sums.steps,
        "grad_norm": sums.norm / sums.steps,
        "images_per_s": round(sums.images / max(train_s, 1e-9), 1),
    }
    if scores is not None:
        row |= {f"val_{name}": value for name, value in asdict(scores).items()}
    times = {name: round(getattr(sums, name), 4) for name in ("data_s", "forward_s", "backward_s", "step_s")}
    return row | times | {"eval_s": round(job.budget.eval_s, 4), "epoch_s": round(train_s + job.budget.eval_s, 4)}


def _sentence(row: Row, state: State, job: Job) -> str:
    total = math.ceil(state.pace.total / job.loader.steps)
    left_s = (state.pace.total - state.step) / job.loader.steps * row["epoch_s"]
    shown = f"epoch {row['epoch']}/{total}  loss {row['train_loss']:.3f}"
    if "val_loss" in row:
        best = " *" if state.best_epoch == row["epoch"] else ""
        shown += (
            f"  val loss {row['val_loss']:.3f}  accuracy {row['val_accuracy']:.3f}  F1 {row['val_macro_f1']:.3f}{best}"
        )
    return f"{shown}  {row['images_per_s']:,.0f} images/s  at most {duration(left_s)} left"
