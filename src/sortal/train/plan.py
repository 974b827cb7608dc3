"""Plan: what every `auto` of a recipe became for these images on this machine, and in plain sentences why.

Resolved once, written to the run as `plan.json` and replayed when a run is taken up again.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from sortal.core.errors import DataError, RecipeError
from sortal.core.preprocess import PreprocessSpec
from sortal.core.recipe import Recipe
from sortal.data.table import ImageTable
from sortal.models.resolve import ModelSource
from sortal.runtime.threads import allowed_cpus
from sortal.train.inputs import geometry, shapes_of, statistics
from sortal.train.phases import Phase, make_phases
from sortal.train.schedule import schedule_notes

Stage = Literal["probe", "gradient"]

_BACKBONE_RATE = 0.6
"""Rate of the uppermost pretrained layers as a share of the head's."""
HEAD_REMEDIES = ("crt", "smote")
"""Remedies for unequal classes that act on the last head alone."""
EARLY_SHARE = 0.2
"""Fine-tuning leaves alone the first stages, as far as together they hold less than this share of the parameters: they
know edges and colors, and cost half of a step."""


class Plan(BaseModel):
    """Every choice of a run in the units that training uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=1, le=1)] = 1
    model: str | None = None
    """The weights card that `model=auto` chose."""
    stages: tuple[Stage, ...]
    """probe: a linear head on frozen features. gradient: training by gradient descent."""
    size: tuple[int, int]
    """(height, width) in pixels."""
    resize: Literal["crop", "pad", "stretch"]
    crop: float
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    freeze: Literal["none", "backbone"]
    refit: bool
    """Fit the head once more on training and validation images after its strength was chosen."""
    phases: tuple[Phase, ...] = ()
    """Of the gradient stage."""
    early_share: float = 0.0
    """The first stages stay frozen as far as together they hold less than this share of the backbone's parameters."""
    statistics: Literal["frozen", "batch"] = "batch"
    """Whether batch norms keep the running statistics of the pretrained weights."""
    interpolate: bool = False
    """Mix the trained with the pretrained weights by the share that is best on validation images."""
    pooling: Literal["mean", "sqrt", "stages"] = "mean"
    """How feature maps become the embedding that the last linear head is fitted on."""
    refit_head: bool = False
    """Fit the linear head anew on features of the trained backbone."""
    epochs: int
    batch: int
    lr: float
    backbone_lr: float = 0.0
    layer_decay: float
    mode: dict[str, Any] | None = None
    """How steps are computed (`precision.Mode`), once that has been measured."""
    time_s: float | None
    """Budget of the whole command in seconds."""
    threads: int
    workers: int
    notes: tuple[str, ...] = ()

    def preprocess(self, recipe: Recipe) -> PreprocessSpec:
        """How images are prepared, in training, validation and production."""
        return PreprocessSpec(
            channels=recipe.input.channels,
            depth=recipe.input.depth,
            region=recipe.input.region,
            size=self.size,
            resize=self.resize,
            crop=self.crop,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )


def make_plan(recipe: Recipe, table: ImageTable, source: ModelSource, *, processes: int = 1) -> Plan:
    """Resolve every `auto`; `processes` share the processor.

    Raises RecipeError for settings that contradict each other, DataError without images.
    """
    rows = _labeled(table, "train")
    if not len(rows):
        raise DataError("there are no labeled training images", where=table.source)
    cpus = max(1, allowed_cpus() // processes)
    notes = list(source.notes)
    shapes = shapes_of(table, rows, recipe)
    stages, freeze, epochs = _stages(recipe, source, len(rows), notes)
    size, resize, crop = geometry(recipe, source, shapes, notes, small=_small(recipe, stages, len(rows)))
    mean, std = statistics(recipe, source, table, rows, size, notes)
    batch = _batch(recipe, len(rows))
    tuned = stages == ("probe", "gradient")
    lr, backbone_lr = _rates(recipe, source, batch)
    notes += schedule_notes(recipe.schedule, epochs, patience=recipe.train.patience) if epochs else ()
    return Plan(
        model=source.card if recipe.model.name == "auto" else None,
        stages=stages,
        size=size,
        resize=resize,
        crop=crop,
        mean=mean,
        std=std,
        freeze=freeze,
        epochs=epochs,
        batch=batch,
        interpolation=source.input.interpolation if source.input else recipe.input.interpolation,
        refit=_refit(recipe, table, stages, notes),
        phases=make_phases(recipe, size, frozen=freeze == "backbone", tuned=tuned) if "gradient" in stages else (),
        early_share=EARLY_SHARE if tuned and recipe.train.unfreeze in ("auto", "gradual") else 0.0,
        statistics=_statistics(recipe, tuned=tuned),
        interpolate=tuned and freeze == "none" and recipe.train.interpolate == "auto",
        pooling=_pooling(recipe, source),
        refit_head=_refit_head(recipe, tuned=tuned and freeze == "none"),
        lr=lr,
        backbone_lr=backbone_lr,
        layer_decay=_layer_decay(recipe, source),
        time_s=recipe.train.time,
        threads=cpus,
        workers=min(cpus, 8) if recipe.train.workers == "auto" else recipe.train.workers,
        notes=tuple(notes),
    )


def _labeled(table: ImageTable, split: str) -> NDArray[np.int64]:
    rows = table.split_rows(split)
    return rows[table.label_array()[rows] >= 0]


def _stages(
    recipe: Recipe, source: ModelSource, images: int, notes: list[str]
) -> tuple[tuple[Stage, ...], Literal["none", "backbone"], int]:
    asked, freeze = recipe.train.epochs, recipe.train.freeze
    pretrained = source.weights_path is not None
    if not pretrained:
        _check_scratch(recipe)
        epochs = _scratch_epochs(images) if asked == "auto" else asked
        notes.append(f"Training from scratch for {epochs} epochs on {images:,} images.")
        return ("gradient",), "none", epochs
    only_probe = asked == 0 or (asked == "auto" and (freeze == "backbone" or _nothing_asks_for_more(recipe)))
    if only_probe:
        notes.append("A linear head on frozen pretrained features; train.epochs or train.freeze=none fine-tunes them.")
        return ("probe",), "backbone", 0
    epochs = _tune_epochs(images) if asked == "auto" else asked
    frozen: Literal["none", "backbone"] = "backbone" if freeze == "backbone" else "none"
    what = "the head alone, with augmentation" if frozen == "backbone" else "all layers"
    notes.append(f"First a linear head on frozen features, then {epochs} epochs of {what}.")
    return ("probe", "gradient"), frozen, epochs


def _nothing_asks_for_more(recipe: Recipe) -> bool:
    return recipe.train.freeze == "auto" and recipe.train.time is None


def _check_scratch(recipe: Recipe) -> None:
    if recipe.train.freeze == "backbone":
        hint = "use pretrained weights (model.weights=auto) or train.freeze=none"
        raise RecipeError("a backbone without pretrained weights cannot be frozen", where="train.freeze", hint=hint)
    if recipe.train.epochs == 0:
        hint = "use pretrained weights (model.weights=auto) or train.epochs=auto"
        raise RecipeError(
            "without pretrained weights there is nothing to fit a head on", where="train.epochs", hint=hint
        )


def _scratch_epochs(images: int) -> int:
    """More passes over fewer images: 44 for 100, 25 for 1,000, 14 for 10,000."""
    return int(np.clip(round(25 * (1000 / images) ** 0.25), 8, 60))


def _tune_epochs(images: int) -> int:
    return int(np.clip(round(10 * (3000 / images) ** 0.3), 4, 20))


def _batch(recipe: Recipe, images: int) -> int:
    """16 to 64, so that an epoch has at least about 25 steps; on a CPU larger batches are not faster."""
    if isinstance(recipe.train.batch, int):
        return recipe.train.batch
    return int(np.clip(2 ** round(math.log2(max(1, images / 25))), 16, 64))


def _rates(recipe: Recipe, source: ModelSource, batch: int) -> tuple[float, float]:
    """Of the head and of the uppermost backbone layers, times sqrt(batch / 64).

    At batch 64: 2e-3 from scratch for both; for pretrained weights 1.4e-3, and 0.6 of it for the backbone.
    """
    scratch = source.weights_path is None
    found = float(f"{(2e-3 if scratch else 1.4e-3) * math.sqrt(batch / 64):.3g}")
    lr = found if recipe.optim.lr == "auto" else recipe.optim.lr
    below = lr if scratch else float(f"{_BACKBONE_RATE * lr:.3g}")
    return lr, below if recipe.optim.backbone_lr == "auto" else recipe.optim.backbone_lr


def _statistics(recipe: Recipe, *, tuned: bool) -> Literal["frozen", "batch"]:
    """A head that was fitted on frozen features knows the features of the pretrained statistics only."""
    asked = recipe.train.statistics
    if asked == "auto":
        return "frozen" if tuned else "batch"
    return asked


def _pooling(recipe: Recipe, source: ModelSource) -> Literal["mean", "sqrt", "stages"]:
    asked, fitted = recipe.model.pooling, source.weights_path is not None and recipe.model.head == "linear"
    if asked == "auto":
        return "stages" if fitted else "mean"
    if asked != "mean" and recipe.model.head == "multi_scale":
        raise RecipeError(
            "a multi_scale head has its own middle stage",
            where="model.pooling",
            received=asked,
            hint="model.pooling=mean",
        )
    return asked


def _small(recipe: Recipe, stages: tuple[Stage, ...], images: int) -> float:
    """How much smaller the input becomes where there is little time to train on it: processor seconds an image.

    12 passes cost a mobile network 0.35 s an image at 160 px (70 images a second on two cores: benchmarks/RESULTS.md),
    and in proportion to the pixels 0.5 at 192 and 0.7 at 224.
    """
    if "gradient" not in stages or "probe" not in stages or recipe.train.time is None:
        return math.inf
    return recipe.train.time * allowed_cpus() / images


def _refit_head(recipe: Recipe, *, tuned: bool) -> bool:
    asked = recipe.train.refit_head
    linear = recipe.model.head == "linear"
    if asked is True and not linear:
        raise RecipeError("only a linear head can be fitted anew", where="train.refit_head", received=recipe.model.head)
    wanted = tuned or recipe.loss.imbalance in ("auto", *HEAD_REMEDIES)
    return linear and (wanted if asked == "auto" else asked)


def _layer_decay(recipe: Recipe, source: ModelSource) -> float:
    if recipe.optim.layer_decay != "auto":
        return recipe.optim.layer_decay
    return 1.0 if source.weights_path is None else 0.9


def _refit(recipe: Recipe, table: ImageTable, stages: tuple[Stage, ...], notes: list[str]) -> bool:
    """Only with a test split: without one the report is about validation images, which the head must not have seen."""
    asked = recipe.data.refit
    possible = bool(len(_labeled(table, "val"))) and bool(len(table.split_rows("test"))) and "probe" in stages
    if asked is True and not possible:
        hint = "it needs pretrained weights, validation images, and a test split that the report can be about"
        raise RecipeError("validation images cannot join the training images", where="data.refit", hint=hint)
    if not possible or asked is False or recipe.model.head != "linear":
        return False
    if recipe.contract is not None and asked == "auto":
        notes.append(
            "The head is not fitted again on the validation images: thresholds for the contract are fitted on them, "
            "for the very network that answers."
        )
        return False
    notes.append(
        "The head is fitted a last time on training and validation images together, after the validation images "
        "have chosen everything; validation figures come from before that."
    )
    return True
