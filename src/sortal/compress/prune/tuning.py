"""Training after a cut, by the same `fit` as every run, taught by the network before the cut or by another teacher;
then calibration, thresholds and unknown score as after every training, and a bundle that names its parent.

A network whose head was fitted on frozen features keeps the running statistics of its norms, is trained with the mean
of its features, and gets a head fitted anew on its own kind of embedding in the end.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from sortal.compress.prune.ground import Ground
from sortal.core.canonical import pretty
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.core.sections import CompressSection, DistillSection, OptimSection, ScheduleSection
from sortal.decide import decision_of_run
from sortal.graphs import publish
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.runtime.threads import allowed_cpus
from sortal.start import Start
from sortal.train.fit import FitResult, fit
from sortal.train.phases import make_phases
from sortal.train.plan import Plan
from sortal.train.stopping import Preempted

_RATE, _PRETRAINED_RATE = 2e-4, 4e-4
"""At 64 images a step: of a network that was trained as a whole, a tenth of what such a one begins with, and of one
whose features came from elsewhere. With 1e-3 ResNet-18 had forgotten more after a cut than the cut had taken."""
_TEMPERATURE, _LABELS = 2.0, 0.3
"""Of the teacher's answers; weight of the labels beside them."""


def tuned(network: Network, ground: Ground, folder: Path, *, epochs: int) -> tuple[Finding, ...]:
    """Train a network that was just cut, and leave `folder/bundle`; the cut network itself is what is trained.

    Raises Preempted where a person stops it; then there is no bundle.
    """
    recipe = recipe_after_cut(ground, epochs)
    plan = plan_after_cut(ground, network, recipe, epochs)
    if plan.pooling != "mean":
        network.repool("mean", channels=ground.channels, size=ground.size)
    home = RunFolder(path=folder)
    source = _source(ground, network)
    publish_file(home.recipe_path, recipe.to_yaml().encode())
    publish_file(home.plan_path, pretty(plan.model_dump(mode="json")).encode())
    fitted = fit(recipe, ground.table, home, source=source, plan=plan, network=network, listener=ground.listener)
    if fitted.stopped == "interrupted":
        raise Preempted("stopped before training after a cut was done; cuts that were finished are kept")
    found = _published(ground, recipe, Start(source=source, plan=plan, network=fitted.network), fitted, home)
    for name in ("cache", "checkpoints"):
        shutil.rmtree(home.path / name, ignore_errors=True)
    return (*fitted.findings, *found)


def _published(ground: Ground, recipe: Recipe, start: Start, fitted: FitResult, home: RunFolder) -> tuple[Finding, ...]:
    decided = decision_of_run(recipe, ground.table, start.plan, fitted)
    for sentence in decided.sentences():
        ground.listener.say(sentence)
    return publish(
        home, recipe, ground.table, start, fitted, decided.decision, ground.listener, parent=ground.bundle.id
    )


def epochs_after_cut(asked: int | str, images: int) -> int:
    """As asked; by itself 10 for 100 training images, 6 for 1,000, 3 for 10,000."""
    return asked if isinstance(asked, int) else int(np.clip(round(6 * (1000 / images) ** 0.25), 2, 12))


def recipe_after_cut(ground: Ground, epochs: int) -> Recipe:
    """The recipe of the run with its pictures, its loss and its contract, but rates for mending instead of learning."""
    recipe, teacher = ground.recipe, ground.recipe.compress.teacher
    taught = DistillSection(
        teacher=teacher or str(ground.bundle.path),
        temperature=_TEMPERATURE,
        ce_weight=_LABELS,
        unlabelled=recipe.compress.unlabelled,
    )
    train = recipe.train.model_copy(
        update={
            "epochs": epochs,
            "time": None,
            "freeze": "none",
            "unfreeze": "all",
            "sizes": recipe.train.sizes if recipe.train.sizes == "auto" else recipe.train.sizes[-1:],
            "interpolate": "none",
            "parallel": "none",
            "trackers": (),
        }
    )
    return recipe.model_copy(
        update={
            "distill": taught,
            "compress": CompressSection(),
            "optim": OptimSection(),
            "schedule": ScheduleSection(),
            "train": train,
            "contract": recipe.contract or ground.bundle.contract,
        }
    )


def plan_after_cut(ground: Ground, network: Network, recipe: Recipe, epochs: int) -> Plan:
    """Training of all layers; for a head that was fitted on features, a fit of it before and after."""
    spec, cpus = ground.bundle.preprocess, allowed_cpus()
    features = network.linear_head and network.pooling.kind != "mean"
    images = len(ground.table.split_rows("train"))
    batch = int(np.clip(2 ** round(np.log2(max(1.0, images / 25))), 16, 64))
    rate = float(f"{(_PRETRAINED_RATE if features else _RATE) * (batch / 64) ** 0.5:.3g}")
    return Plan(
        stages=("probe", "gradient") if features else ("gradient",),
        size=spec.size,
        resize=spec.resize,
        crop=spec.crop,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        freeze="none",
        refit=False,
        phases=make_phases(recipe, spec.size, frozen=False, tuned=features),
        statistics="frozen" if features else "batch",
        pooling=network.pooling.kind,
        refit_head=features or recipe.train.refit_head is True,
        epochs=epochs,
        batch=batch,
        lr=rate,
        backbone_lr=rate,
        layer_decay=1.0,
        time_s=None,
        threads=cpus,
        workers=min(cpus, 8),
        notes=(f"{epochs} epochs of all layers, taught by {recipe.distill.teacher}.",),
    )


def _source(ground: Ground, network: Network) -> ModelSource:
    """Where the network started: from given weights, so nothing of it is initialized; without their digest, which would
    name features of the network before the cut in the cache."""
    manifest = ground.bundle.manifest
    return ModelSource(
        name=network.architecture,
        architecture=network.architecture,
        arguments=network.arguments,
        identity=network.identity,
        cut=network.cut,
        weights_path=ground.bundle.weights_path,
        licence=manifest.weights_licence,
        source=manifest.model.source or "a bundle without a record of its weights",
    )
