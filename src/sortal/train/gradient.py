"""The gradient stage: prepared pixels, loaders, optimizer, precision and checkpoints around the loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sortal.core.report import Finding
from sortal.data import fast_jpeg
from sortal.evaluate.diagnose.health import diagnose_gradients, overfitting_finding
from sortal.models.network import Network
from sortal.train.augment import AUGMENTATIONS, ClassFacts, Policy
from sortal.train.context import Context, Outcome
from sortal.train.criterion import Wrapped, make_criterion
from sortal.train.devices import matrix_units, synchronized_norms, team_notes
from sortal.train.distill import DistillLoss, copy_matching_layers, make_teaching
from sortal.train.finish import finish
from sortal.train.keeper import Files, restore
from sortal.train.loader import TrainLoader
from sortal.train.loop import Criterion, Job, State, Stopped, run
from sortal.train.losses import make_loss
from sortal.train.mode_memory import mode_key, remember, remembered
from sortal.train.optim import Average, copy_state, make_optimizer
from sortal.train.phases import Phase
from sortal.train.precision import GradientStep, Mode, choose_mode
from sortal.train.sampling import make_sampler
from sortal.train.schedule import Pace
from sortal.train.scores import Scores, predict_logits, score
from sortal.train.stopping import Budget, Preempted, stop_on_signals
from sortal.train.store import Images, prepared
from sortal.train.teacher_source import open_network
from sortal.train.team import device
from sortal.train.unlabelled import Beside, unlabelled_images

LONGER_HEAD = 3.0
"""Seconds that the last head takes over those of the probe's, whose features are half as many."""

Loaders = Mapping[tuple[int, int], TrainLoader]


@dataclass(frozen=True, kw_only=True)
class _Material:
    """What is trained and validated on."""

    loaders: Loaders
    """By input size."""
    beside: Loaders
    """Of images without labels, by input size; empty where there are none."""
    val: Images | None
    findings: tuple[Finding, ...]

    @property
    def largest(self) -> TrainLoader:
        """The loader of the largest size, which the preview is taken from."""
        return self.loaders[max(self.loaders)]


def train(context: Context, network: Network, before: Outcome | None, *, notes: tuple[str, ...] = ()) -> Outcome:
    """Train `network`, leave its best weights in it, and say how it went.

    `before` is what a probe left: then its validation score is what the first epoch has to beat.
    """
    if before is None:
        for note in notes:
            context.listener.say(note)
    pretrained = copy_state(network) if before is not None else {}
    context = _with_time_for_the_head(context, before)
    with _material(context) as material:
        _prepare(context, network, material)
        mode = _choose_mode(context, network, material)
        network.to(device()).to(memory_format=mode.memory_format)
        teaching = make_teaching(context, network, material.largest.images.rows)
        state = _first_state(context, network, material, teaching, before)
        with _together(context, network), _said_to_go_on(context):
            stopped = _run(context, state, material, mode, teaching)
        network.load_state_dict(dict(state.best_weights))
        network.unfreeze()
        network.to("cpu").eval()
        finished = finish(context, network, material.val, pretrained=pretrained, stopped=stopped)
        preview = material.largest.preview()
    empty = np.zeros(0, np.int64)
    val = material.val
    return Outcome(
        val_rows=empty if val is None else val.rows,
        val_labels=empty if val is None else val.labels,
        val_logits=finished.val_logits,
        history=(*(before.history if before else ()), *state.history),
        findings=(
            *(before.findings if before else material.findings),
            *_health(context, state),
            *_weak_teacher(teaching, state),
        ),
        stopped=stopped,
        best_epoch=state.best_epoch,
        train_batch=preview,
        notes=(*(before.notes if before else notes), *finished.notes, *_how_to_go_on(context, stopped)),
        remedy=finished.remedy or (before.remedy if before else None),
    )


@contextmanager
def training_batches(context: Context, network: Network) -> Iterator[TrainLoader]:
    """What gives training its batches at the largest size, with `network` as it is before the first step."""
    with _material(context) as material:
        _prepare(context, network, material)
        yield material.largest


def _with_time_for_the_head(context: Context, before: Outcome | None) -> Context:
    """The head that is fitted at the end has about twice the features of the probe's, and takes longer accordingly."""
    if context.deadline_s is None or before is None or not context.plan.refit_head:
        return context
    probe_s = float(before.history[0].get("head_s", 0.0))
    return replace(context, deadline_s=context.deadline_s - LONGER_HEAD * probe_s)


@contextmanager
def _together(context: Context, network: Network) -> Iterator[None]:
    """What several processes and CUDA devices need, and the sentences about it."""
    frozen = context.plan.statistics == "frozen"
    asked, batch = context.recipe.train.parallel, context.plan.batch
    for note in team_notes(context.team, asked=asked, batch=batch, frozen_statistics=frozen):
        context.listener.say(note)
    joined = context.team.size > 1 and not frozen and device().type == "cuda"
    with synchronized_norms(network, wanted=joined), matrix_units() as said:
        if said is not None:
            context.listener.say(said)
        yield


@contextmanager
def _said_to_go_on(context: Context) -> Iterator[None]:
    try:
        yield
    except Preempted as stop:
        path = _resumable(context)
        if path is None:
            raise
        raise Preempted(f"{stop}; to go on: sortal train --resume {path}") from stop


@contextmanager
def _material(context: Context) -> Iterator[_Material]:
    """Prepared training images, once for each input size and with room for crops, and validation images by the
    reference."""
    findings: list[Finding] = []
    with ExitStack() as stack:
        loaders: dict[tuple[int, int], TrainLoader] = {}
        beside: dict[tuple[int, int], TrainLoader] = {}
        more = unlabelled_images(context)
        for size in dict.fromkeys(phase.size for phase in context.plan.phases):
            policy = _policy(context, size)
            spec = context.spec.model_copy(update={"size": size})
            images, found = stack.enter_context(_prepared(context, "train", policy.stored(spec)))
            findings += [] if loaders else found
            loaders[size] = _loader(context, images, policy, size)
            if more is not None:
                other = replace(context, table=more)
                images, _ = stack.enter_context(_prepared(other, "train", policy.stored(spec), "unlabelled"))
                beside[size] = _loader(other, images, policy, size)
        val = None
        if len(context.labeled("val")):
            val, found = stack.enter_context(_prepared(context, "val", context.spec))
            findings += found
        yield _Material(loaders=loaders, beside=beside, val=val, findings=tuple(findings))


def _policy(context: Context, size: tuple[int, int]) -> Policy:
    section = context.recipe.augment
    facts = ClassFacts(names=context.table.labels.names, counts=context.counts)
    policy: Policy = AUGMENTATIONS.get(section.name)(section, context.spec.model_copy(update={"size": size}), facts)
    return policy


@contextmanager
def _prepared(context: Context, split: str, spec, what: str = "") -> Iterator[tuple[Images, tuple[Finding, ...]]]:  # type: ignore[no-untyped-def]
    asked = context.recipe.train.decode
    fast = split == "train" and (asked == "fast" or (asked == "auto" and fast_jpeg.available()))
    with prepared(
        context.table,
        context.labeled(split),
        spec,
        folder=context.cache,
        threads=context.plan.workers,
        listener=context.listener,
        stage=f"preparing {what or split} images",
        decode="fast" if fast else "reference",
        keep=context.recipe.train.cache,
    ) as found:
        yield found


def _loader(context: Context, images: Images, policy: Policy, size: tuple[int, int]) -> TrainLoader:
    recipe = context.recipe
    return TrainLoader(
        images=images,
        spec=context.spec.model_copy(update={"size": size}),
        policy=policy,
        section=recipe.augment,
        sampler=make_sampler(context.remedy, images.labels, context.classes, recipe.seed),
        classes=context.classes,
        seed=recipe.seed,
        batch=min(context.plan.batch, len(images)),
        workers=context.plan.workers,
        team=context.team,
    )


def _prepare(context: Context, network: Network, material: _Material) -> None:
    """What has to be settled before the first step: statistics, and a first layer that is computed from images."""
    if context.plan.statistics == "frozen":
        network.freeze_statistics()
    section = context.recipe.distill
    if section.init == "teacher" and section.teacher is not None and not context.pretrained:
        first = section.teacher if isinstance(section.teacher, str) else section.teacher[0]
        copied = copy_matching_layers(network, open_network(first))
        context.listener.say(f"{len(copied)} layers start from the teacher's weights")
    first_look = getattr(network.backbone, "initialize_from_images", None)
    if first_look is not None and not context.pretrained:
        loader = material.largest
        batches = loader.epoch(0)
        images = [loader.finish(next(batches), torch.device("cpu"), torch.contiguous_format)[0] for _ in range(1)]
        first_look(torch.cat(images))


def _choose_mode(context: Context, network: Network, material: _Material) -> Mode:
    """As the plan says where the run is taken up or done again, else by a measurement on the first batch of the largest
    size, in process 0, which is then written into the plan."""
    if context.plan.mode is not None:
        return Mode.from_plain(context.plan.mode)
    loader = material.largest
    images, targets = loader.finish(next(iter(loader.epoch(0))), device(), torch.contiguous_format)
    plain = context.team.tell(_measured_mode(context, network, images, targets).plain())
    chosen = Mode.from_plain(plain)
    context.keep_plan(context.plan.model_copy(update={"mode": plain}))
    for note in chosen.notes:
        context.listener.say(note)
    return chosen


def _measured_mode(context: Context, network: Network, images: Tensor, targets: Tensor) -> Mode:
    """Measured now, or before on this machine."""
    section = context.recipe.train
    settings = section.model_dump(mode="json", include={"precision", "layout", "compile"})
    key = mode_key(network, images, settings)
    known = remembered(key) if section.cache else None
    if known is not None:
        return known
    loss = make_loss(context.recipe.loss, context.counts, remedy=context.remedy)
    found = choose_mode(
        network, images, targets, loss, section, compile_worth_s=context.worth_s, clock=time.monotonic
    ).mode
    if section.cache:
        remember(key, found)
    return found


def _first_state(
    context: Context, network: Network, material: _Material, teaching: DistillLoss | None, before: Outcome | None
) -> State:
    recipe, plan = context.recipe, context.plan
    if plan.freeze == "backbone":
        network.freeze_stages(0)
    optimizer = make_optimizer(
        network, recipe.optim, lr=plan.lr, backbone_lr=plan.backbone_lr, layer_decay=plan.layer_decay
    )
    steps = material.largest.steps
    state = State(network=network, optimizer=optimizer, pace=Pace(total=max(1, plan.epochs * steps)))
    if teaching is not None and teaching.projection is not None:
        state.beside = teaching.projection
        optimizer.add_param_group({"params": list(teaching.projection.parameters()), "scale": 1.0, "weight_decay": 0.0})
    if recipe.optim.ema > 0:
        state.average = Average(network, recipe.optim.ema)
    if before is not None and len(before.val_labels):
        state.best, state.best_weights = score(before.val_logits, before.val_labels), copy_state(network)
    return state


def _run(context: Context, state: State, material: _Material, mode: Mode, teaching: DistillLoss | None) -> Stopped:
    plan, recipe, loaders = context.plan, context.recipe, material.loaders
    wrapped = Wrapped(context.team, compiled=mode.compiled)
    stepper = GradientStep(clip=recipe.optim.clip, accumulate=recipe.optim.accumulate, mode=mode)
    wanted = None if recipe.train.epochs == "auto" and context.deadline_s is not None else state.pace.total
    epoch_steps = material.largest.steps
    restored = restore(context, state, stepper, epoch_steps=epoch_steps)
    budget = Budget(
        deadline_s=context.deadline_s,
        steps_per_epoch=epoch_steps,
        phases=plan.phases,
        wanted=wanted,
        clock=time.monotonic,
    )

    def validate(network: Network) -> Scores:
        assert material.val is not None
        context.team.align(network)
        logits = predict_logits(network, material.val, batch=2 * plan.batch, workers=plan.workers, team=context.team)
        return score(logits, material.val.labels)

    def enter(phase: Phase) -> None:
        if plan.freeze != "backbone":
            most = late_stages(state.network, plan.early_share)
            state.network.freeze_stages(most if phase.keep_last is None else min(most, phase.keep_last))
        wrapped.forget()

    with stop_on_signals() as stop:
        job = Job(
            recipe=recipe,
            lr=plan.lr,
            mode=mode,
            phases=plan.phases,
            loaders=loaders,
            criterion=_criterion(context, teaching, wrapped, material),
            stepper=stepper,
            budget=budget,
            stop=stop,
            enter=enter,
            validate=None if material.val is None else validate,
            keep=Files(context, stepper, epoch_steps=epoch_steps, recorded=restored),
            listener=context.listener,
            team=context.team,
        )
        return run(state, job)


def late_stages(network: Network, early_share: float) -> int:
    """How many of the last stages are left when the first, up to a share of the backbone's parameters, stay frozen."""
    stage_of, stages = network.parameter_stages(), len(network.stages())
    sizes = np.zeros(stages + 1)
    for name, parameter in network.named_parameters():
        sizes[stage_of[name]] += parameter.numel()
    before = np.cumsum(sizes[:stages]) / max(sizes[:stages].sum(), 1)
    return stages - int((before < early_share).sum())


def _criterion(context: Context, teaching: DistillLoss | None, wrapped: Wrapped, material: _Material) -> Criterion:
    parents = context.parents if context.recipe.loss.coarse > 0 else None
    loss = make_loss(context.recipe.loss, context.counts, remedy=context.remedy, parents=parents)
    section = context.recipe.augment
    altered = section.mixup > 0 or section.cutmix > 0 or section.erase > 0
    beside = Beside(material.beside, material.largest.steps) if material.beside else None
    return make_criterion(loss, teaching, wrapped, altered=altered, beside=beside)


def _health(context: Context, state: State) -> tuple[Finding, ...]:
    found = overfitting_finding(state.history, context.recipe)
    return (*diagnose_gradients(state.history), *((found,) if found is not None else ()))


def _weak_teacher(teaching: DistillLoss | None, state: State) -> tuple[Finding, ...]:
    found = None if teaching is None or state.best is None else teaching.finding(state.best.accuracy)
    return () if found is None else (found,)


def _how_to_go_on(context: Context, stopped: Stopped) -> tuple[str, ...]:
    path = _resumable(context)
    if stopped != "interrupted" or path is None:
        return ()
    note = (
        f"Stopped on request; the best weights so far are kept. To go on where it stopped: sortal train --resume {path}"
    )
    context.listener.say(note)
    return (note,)


def _resumable(context: Context) -> Path | None:
    """The folder of a run of its own; training inside other work, such as after a cut, is not resumed by itself."""
    run = context.run
    return run.path if run is not None and run.state_path.is_file() else None
