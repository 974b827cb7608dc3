"""The story of `sortal learning-curve`: are there enough images, and which class would gain most from more?

Heads are fitted on cached frozen features of ever larger parts of the training images and judged on the validation
images; the test split is not touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.build import divide, engine_features, start_of
from sortal.core.errors import DataError
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Finding, Metric, Report, Table
from sortal.core.run import new_run
from sortal.data.table import ImageTable
from sortal.evaluate.curve_plot import draw_curve
from sortal.evaluate.intervals import wilson
from sortal.evaluate.learning import Projection, class_gains, fit_power_law, points, project, subset
from sortal.train.features import Features
from sortal.train.probe import choose_strength, fit_head
from sortal.train.randomness import generator

DRAWS = 5
FACTORS = (2.0, 4.0)
ENOUGH = 0.01
"""Where twice the images promise less accuracy than this, more labels are not what is missing."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Errors on validation images by images a class."""

    images: NDArray[np.float64]
    """(P,) mean images a class of each point: small classes give what they have."""
    draws: list[NDArray[np.float64]]
    """Errors of each point's draws."""
    class_errors: NDArray[np.float64]
    """(C,) with all training images; NaN for classes without a validation image."""


def learning_curve(table: ImageTable, recipe: Recipe, *, out: Path, subject: str, listener: Listener) -> Report:
    """Measure, project, draw. See `api.learning_curve`."""
    divided = divide(table, recipe, listener)
    if not len(divided.split_rows("val")):
        raise DataError("a learning curve needs validation images", where=divided.source, hint="set data.split.val")
    start = start_of(recipe, divided, listener)
    if start.source.weights_path is None:
        raise DataError(
            "a learning curve needs a pretrained network, whose features do not depend on the images",
            where="model",
            received=start.source.name,
            hint="name pretrained weights, for example with SORTAL_ZOO=folder-of-weights-cards",
        )
    train, val = engine_features(recipe, divided, start, listener)
    with new_run(out, f"{subject}-learning-curve") as run:
        measured = _measure(train, val, len(divided.labels), recipe.seed, listener)
        report = _report(divided, train, val, measured, recipe)
        picture = draw_curve(measured.images, measured.draws, _projections(measured, recipe.seed), report, run.path)
        report = report.model_copy(update={"provenance": {**report.provenance, "picture": str(picture)}})
        publish_file(run.report_path, report.to_json().encode())
    return report


def _measure(train: Features, val: Features, classes: int, seed: int, listener: Listener) -> Measured:
    strength = choose_strength(train.values, train.labels, val.values, val.labels, classes).strength
    counts = np.bincount(train.labels, minlength=classes)
    images, draws, tried = list[float](), list[NDArray[np.float64]](), points(counts)
    answers = np.zeros(0, np.int64)
    for number, most in enumerate(tried):
        last = number == len(tried) - 1
        errors, sizes = list[float](), list[float]()
        for draw in range(1 if last else DRAWS):
            rows = _rows(train.labels, most, seed, number, draw, whole=last)
            head = fit_head(train.values[rows], train.labels[rows], classes, strength=strength)
            answers = head.logits(val.values).argmax(axis=1)
            errors.append(float((answers != val.labels).mean()))
            sizes.append(len(rows) / len(np.unique(train.labels)))
        listener.say(f"{np.mean(sizes):6.1f} images a class: accuracy {1 - np.mean(errors):.4f}")
        images.append(float(np.mean(sizes)))
        draws.append(np.array(errors))
    held = np.bincount(val.labels, minlength=classes)
    wrong = np.bincount(val.labels[answers != val.labels], minlength=classes)
    errors_by_class = np.where(held > 0, wrong / np.maximum(held, 1), np.nan)
    return Measured(images=np.array(images), draws=draws, class_errors=errors_by_class)


def _rows(labels: NDArray[np.int64], most: int, seed: int, point: int, draw: int, *, whole: bool) -> NDArray[np.int64]:
    if whole:
        return np.arange(len(labels))
    return subset(labels, most, generator(seed, "folds", epoch=1 + point, index=draw))


def _projections(measured: Measured, seed: int) -> list[Projection]:
    return project(measured.images, measured.draws, FACTORS, seed=seed)


def _report(table: ImageTable, train: Features, val: Features, measured: Measured, recipe: Recipe) -> Report:
    now = 1 - float(measured.draws[-1].mean())
    low, high = wilson(round(now * len(val.labels)), len(val.labels), recipe.evaluate.confidence)
    metrics = {"accuracy": Metric(value=now, low=float(low), high=float(high), n=len(val.labels))}
    for factor, found in zip(FACTORS, _projections(measured, recipe.seed), strict=True):
        metrics[f"accuracy_with_{factor:g}x_images"] = Metric(
            value=1 - found.error, low=1 - found.high, high=1 - found.low
        )
    rows = tuple(
        (
            round(float(images), 1),
            round(1 - float(draw.mean()), 4),
            round(1 - float(draw.max()), 4),
            round(1 - float(draw.min()), 4),
            len(draw),
        )
        for images, draw in zip(measured.images, measured.draws, strict=True)
    )
    return Report(
        kind="learning_curve",
        subject=table.source,
        data_digest=table.content_digest,
        metrics=metrics,
        tables={
            "curve": Table(columns=("images a class", "accuracy", "lowest", "highest", "draws"), rows=rows),
            "classes": _class_table(table, train, val, measured),
        },
        findings=(_verdict(metrics),),
        provenance={"recipe_digest": recipe.digest, "judged_on": "validation images"},
    )


def _class_table(table: ImageTable, train: Features, val: Features, measured: Measured) -> Table:
    """Classes by the gain that twice their images promise, the largest first."""
    counts = np.bincount(train.labels, minlength=len(table.labels)).astype(np.int64)
    held = np.bincount(val.labels, minlength=len(table.labels))
    law = fit_power_law(measured.images, np.array([draw.mean() for draw in measured.draws]))
    gains = class_gains(law, counts, measured.class_errors)
    order = np.argsort(-np.nan_to_num(gains, nan=-1.0), kind="stable")
    rows = tuple(
        (
            table.labels.names[c],
            int(counts[c]),
            int(held[c]),
            None if np.isnan(gains[c]) else round(1 - float(measured.class_errors[c]), 4),
            None if np.isnan(gains[c]) else round(float(gains[c]), 4),
        )
        for c in order
    )
    columns = ("class", "training images", "validation images", "recall now", "recall gained by twice the images")
    return Table(columns=columns, rows=rows)


def _verdict(metrics: dict[str, Metric]) -> Finding:
    now, twice = metrics["accuracy"].value, metrics["accuracy_with_2x_images"]
    assert now is not None and twice.value is not None and twice.low is not None and twice.high is not None
    gain = twice.value - now
    shown = f"from {now:.1%} to about {twice.value:.1%} ({twice.low:.1%} to {twice.high:.1%})"
    if gain < ENOUGH:
        message = f"Twice the images would bring little: {shown}. Another network, input size or fine-tuning may."
        return Finding(code="enough_images", severity="info", message=message, hint="sortal train … train.freeze=none")
    message = f"Twice the images of every class would raise accuracy {shown}."
    hint = "the classes at the top of the table gain most"
    return Finding(code="more_images_help", severity="info", message=message, hint=hint)
