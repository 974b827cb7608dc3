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
from torch import Tensor, nn

from sortal.core.errors import RecipeError
from sortal.core.progress import Listener, duration
from sortal.core.recipe import Recipe
from sortal.evaluate.diagnose.health import GRADIENT_NORMS
from sortal.models.network import Network
from sortal.train.loader import Batch, TrainLoader
from sortal.train.optim import Average, RunningMean, copy_state, set_rate
from sortal.train.phases import Phase, phase_at
from sortal.train.precision import GradientStep, Mode
from sortal.train.profile import in_stage, stage, step_done
from sortal.train.randomness import torch_randomness
from sortal.train.schedule import Pace, patience_epochs, rate_at
from sortal.train.scores import Scores
from sortal.train.stopping import Budget, Preempted, StopFlag
from sortal.train.team import SOLO, Team, device

Stopped = Literal["done", "early", "time", "interrupted"]
Row = dict[str, Any]
Criterion = Callable[[Network, Tensor, Tensor, Batch], Tensor]
"""(network, images, targets, batch) -> the loss of one step, a scalar: forward pass, loss of every branch, teacher."""

_REFIT_STEPS = 20
"""How often the budget is looked at within an epoch."""


@dataclass(kw_only=True)
class Sums:
    """Over the steps of one epoch; times in seconds."""

    started_s: float = 0.0
    phase: int = 0
    steps: int = 0
    images: int = 0
    loss: float = 0.0
    norm: float = 0.0
    changes: int = 0
    """Steps in which the weights changed."""
    skipped: int = 0
    data_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    step_s: float = 0.0
    norms: dict[str, float] = field(default_factory=dict)
    """Of each block's gradients, at the last step."""


@dataclass(kw_only=True)
class State:
    """What changes while training: together with the weights, all that a checkpoint needs."""

    network: Network
    optimizer: torch.optim.Optimizer
    pace: Pace
    average: Average | None = None
    mean: RunningMean | None = None
    beside: nn.Module | None = None
    """What learns beside the network and is no part of the result: a projection onto a teacher's embedding."""
    step: int = 0
    best: Scores | None = None
    best_epoch: int = 0
    """0 is the state before the first epoch."""
    best_weights: Mapping[str, Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    """Of the epoch that is under way."""


class Keeper(Protocol):
    """Puts rows and checkpoints where they last."""

    def due(self) -> bool:
        """Whether a checkpoint should be written in the middle of an epoch."""

    def __call__(self, state: State, *, stopping: bool) -> None:
        """`stopping`: there will be no later call, so everything has to be written now."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same while training."""

    recipe: Recipe
    lr: float
    mode: Mode
    phases: tuple[Phase, ...]
    loaders: Mapping[tuple[int, int], TrainLoader]
    """By input size."""
    criterion: Criterion
    stepper: GradientStep
    budget: Budget
    stop: StopFlag
    enter: Callable[[Phase], None]
    """Makes the parts of the network that learn in a phase learn, and no others."""
    validate: Callable[[Network], Scores] | None
    """None where there are no validation images: then the last state is the best."""
    keep: Keeper
    """Called after every epoch, and when training is asked to stop."""
    listener: Listener
    team: Team = SOLO
    clock: Callable[[], float] = time.monotonic

    @property
    def steps(self) -> int:
        """Steps in an epoch, the same for all sizes."""
        return next(iter(self.loaders.values())).steps


def run(state: State, job: Job) -> Stopped:
    """Train until the last step, the deadline, a stop signal, or `patience` epochs without a better validation metric.

    Leaves the best weights in `state.best_weights`. A state from a checkpoint goes on wherever it was taken. Raises
    RecipeError when the loss or the gradient is not a number, Preempted after a SIGTERM.
    """
    while state.step < state.pace.total or state.sums.steps:
        epoch, first = divmod(state.step, job.steps)
        if state.sums.steps and (first == 0 or state.step >= state.pace.total):
            _finish_epoch(state, job, epoch + (first > 0), job.phases[state.sums.phase])
            continue
        if first == 0 and _out_of_patience(state, job, epoch):
            return "early"
        _run_epoch(state, job, epoch, first)
        if job.stop.requested:
            return _interrupted(state, job)
    return "time" if job.budget.deadline_s is not None and state.step != job.budget.wanted else "done"


def _run_epoch(state: State, job: Job, epoch: int, first: int) -> None:
    if not state.sums.steps:
        number = phase_at(job.phases, state.pace.at(epoch * job.steps))
        state.sums = Sums(started_s=job.clock(), phase=number)
    number = state.sums.phase
    phase = job.phases[number]
    loader = job.loaders[phase.size]
    job.enter(phase)
    state.network.train()
    before_s = job.clock()
    for batch in in_stage("data", loader.epoch(epoch, first_step=first)):
        ready_s = job.clock()
        _train_step(state, job, loader, batch, epoch)
        step_done()
        done_s = job.clock()
        state.sums.data_s += ready_s - before_s
        job.budget.add(done_s - before_s, number)
        before_s = done_s
        if state.step % _REFIT_STEPS == 0 or job.budget.steps == 3:
            _refit(state, job)
        job.stop.requested = job.team.any(job.stop.requested)
        if job.stop.requested or state.step >= state.pace.total:
            break
        if state.step % job.steps and job.team.any(job.keep.due()):
            job.keep(state, stopping=False)


def _refit(state: State, job: Job) -> None:
    """Process 0 knows what time it is."""
    if job.budget.deadline_s is not None:
        state.pace = Pace(**job.team.tell(asdict(job.budget.refit(state.pace, state.step))))


def _train_step(state: State, job: Job, loader: TrainLoader, batch: Batch, epoch: int) -> None:
    """One step. The rate is that of the step's beginning; randomness inside the network comes from its number."""
    sums = state.sums
    started_s = job.clock()
    set_rate(state.optimizer, _rate(state, job))
    with stage("forward"):
        images, targets = loader.finish(batch, device(), job.mode.memory_format)
    with (
        stage("forward"),
        torch_randomness(job.recipe.seed, "step", index=state.step * job.team.size + job.team.rank),
        job.mode.autocast(),
    ):
        loss = job.criterion(state.network, images, targets, batch)
    value = float(job.team.add(loss.detach().float().cpu().reshape(1) * batch.weight)[0]) / job.team.size
    _check_number(value, "loss", state, job, epoch)
    forward_s = job.clock()
    with stage("backward"):
        job.stepper.backward(loss * batch.weight)
    if state.beside is not None:
        job.team.average_gradients(state.beside.parameters())
    backward_s = job.clock()
    last = (state.step + 1) % job.steps == 0
    with stage("step"):
        taken = job.stepper.step(state.network, state.optimizer, layers=last)
    sums.norms = dict(taken.layers or sums.norms)
    if taken.norm is not None and not taken.skipped:
        _check_number(taken.norm, "gradient", state, job, epoch)
        sums.norm, sums.changes = sums.norm + taken.norm, sums.changes + 1
    if taken.changed:
        _average(state, job)
    state.step += 1
    ended_s = job.clock()
    sums.steps += 1
    sums.images += len(batch.samples) * job.team.size
    sums.loss += value
    sums.skipped += taken.skipped
    sums.forward_s += forward_s - started_s
    sums.backward_s += backward_s - forward_s
    sums.step_s += ended_s - backward_s


def _average(state: State, job: Job) -> None:
    if state.average is not None:
        state.average.update(state.network, state.step)
    share = job.recipe.train.average
    if share > 0 and state.pace.at(state.step) >= 1.0 - share:
        state.mean = state.mean or RunningMean(state.network)
        state.mean.update(state.network)


def _rate(state: State, job: Job) -> float:
    epochs = state.pace.total / job.steps
    return rate_at(state.pace.at(state.step), job.recipe.schedule, base=job.lr, epochs=epochs)


def _check_number(value: float, what: str, state: State, job: Job, epoch: int) -> None:
    if not math.isfinite(value):
        raise RecipeError(
            f"training diverged: the {what} is not a finite number at step {state.step} (epoch {epoch + 1})",
            where="optim.lr",
            received=f"{job.lr:g}, at this step {_rate(state, job):.3g}",
            hint=f"lower it, for example optim.lr={job.lr / 10:.2g}",
        )


def _finish_epoch(state: State, job: Job, epoch: int, phase: Phase) -> None:
    started_s = job.clock()
    scores, weights = _evaluate(state, job)
    job.budget.eval_s = job.clock() - started_s
    better = scores is None or scores.better(state.best, job.recipe.train.metric)
    if better:
        state.best, state.best_epoch, state.best_weights = scores, epoch, weights
    row = _row(state, job, epoch, scores, phase)
    state.history.append(row)
    state.sums = Sums()
    _refit(state, job)
    job.keep(state, stopping=False)
    job.listener.say(_sentence(row, state, job))


def _evaluate(state: State, job: Job) -> tuple[Scores | None, dict[str, Tensor]]:
    """Scores and a copy of the weights that earned them: the averaged ones where there is an average."""
    raw = copy_state(state.network)
    averaged = state.mean or state.average
    if averaged is None:
        return (job.validate(state.network) if job.validate else None), raw
    state.network.load_state_dict(averaged.state)
    scores = job.validate(state.network) if job.validate else None
    kept = copy_state(state.network)
    state.network.load_state_dict(raw)
    return scores, kept


def _out_of_patience(state: State, job: Job, epoch: int) -> bool:
    """Where the rate restarts, patience counts to the end of a cycle: just after a restart every metric dips."""
    if job.validate is None or epoch == 0:
        return False
    allowed = patience_epochs(job.recipe.schedule, epoch, job.recipe.train.patience)
    return job.team.any(epoch - state.best_epoch >= allowed)


def _interrupted(state: State, job: Job) -> Stopped:
    """Where no epoch was finished, the present state is all there is; it is no best state to go on with, though."""
    job.keep(state, stopping=True)
    if job.team.any(job.stop.urgent):
        raise Preempted(f"stopped by SIGTERM at step {state.step}")
    if not state.best_weights:
        state.best_weights = copy_state(state.network)
    return "interrupted"


def _row(state: State, job: Job, epoch: int, scores: Scores | None, phase: Phase) -> Row:
    sums = state.sums
    train_s = max(job.clock() - sums.started_s - job.budget.eval_s, 1e-9)
    row: Row = {
        "epoch": epoch,
        "step": state.step,
        "steps": state.pace.total,
        "lr": _rate(state, job),
        "size": list(phase.size),
        "learning": "all" if phase.keep_last is None else phase.keep_last,
        "train_loss": sums.loss / sums.steps,
        "grad_norm": sums.norm / max(sums.changes, 1),
        "images_per_s": round(sums.images / train_s, 1),
    }
    row |= {"skipped_steps": sums.skipped} if sums.skipped else {}
    if scores is not None:
        row |= {f"val_{name}": value for name, value in asdict(scores).items()}
    times = {name: round(getattr(sums, name), 4) for name in ("data_s", "forward_s", "backward_s", "step_s")}
    row |= {GRADIENT_NORMS: {name: float(f"{norm:.3g}") for name, norm in sums.norms.items()}} if sums.norms else {}
    return row | times | {"eval_s": round(job.budget.eval_s, 4), "epoch_s": round(train_s + job.budget.eval_s, 4)}


def _sentence(row: Row, state: State, job: Job) -> str:
    total = math.ceil(state.pace.total / job.steps)
    left_s = job.budget.left_s(state.pace, state.step)
    shown = f"epoch {row['epoch']}/{total}  loss {row['train_loss']:.3f}"
    if "val_loss" in row:
        best = " *" if state.best_epoch == row["epoch"] else ""
        shown += (
            f"  val loss {row['val_loss']:.3f}  accuracy {row['val_accuracy']:.3f}  F1 {row['val_macro_f1']:.3f}{best}"
        )
    return f"{shown}  {row['images_per_s']:,.0f} images/s  at most {duration(left_s)} left"
