"""The story of `sortal learning-curve`: are there enough images, and which class would gain most from more?

Heads are fitted on cached frozen features of ever larger parts of the training images and judged on the validation
images; the test split is not touched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.progress import Listener
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Finding, Metric, Report, Table
from sortal.core.run import new_run
from sortal.data.table import ImageTable
from sortal.divide import divide
from sortal.evaluate.drawing.curve_plot import draw_curve
from sortal.evaluate.learning import Projection, class_gains, fit_power_law, points, project, subset
from sortal.evaluate.measure.intervals import wilson
from sortal.graphs import engine_features
from sortal.start import Start, start_of
from sortal.train.context import Context
from sortal.train.features import Features
from sortal.train.fit import new_network
from sortal.train.head_choice import HeadChoice, choose_head, fit_chosen
from sortal.train.plan import make_plan
from sortal.train.probe import LinearHead
from sortal.train.randomness import generator
from sortal.train.scores import Scores, score

DRAWS = 5
FACTORS = (2.0, 4.0)
ENOUGH = 0.01
"""Where twice the images promise less accuracy than this, more labels are not what is missing."""
_PENALTIES = (1.0, 4.0, 16.0)
"""Fewer images want a stronger penalty: so many times that of all images are tried at each point."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Answers to validation images by training images a class."""

    images: NDArray[np.float64]
    """(P,) mean images a class of each point: small classes give what they have."""
    wrong: list[NDArray[np.bool_]]
    """(R, V) of each point: which validation images the heads of its draws got wrong."""
    projections: list[Projection]

    @property
    def errors(self) -> list[NDArray[np.float64]]:
        """(R,) of each point."""
        return [one.mean(axis=1) for one in self.wrong]


def learning_curve(table: ImageTable, recipe: Recipe, *, out: Path, subject: str, listener: Listener) -> Report:
    """Measure, project, draw. See `explore.learning_curve`."""
    divided = divide(table, recipe, listener)
    if not len(divided.split_rows("val")):
        raise DataError("a learning curve needs validation images", where=divided.source, hint="set data.split.val")
    context, start = _start(recipe, divided, listener)
    train, val = engine_features(recipe, divided, start, listener)
    measured = _measure(context, start.network.pooling.parts, train, val)
    with new_run(out, f"{subject}-learning-curve") as run:
        report = _report(divided, train, val, measured, recipe, start)
        picture = draw_curve(measured.images, measured.errors, measured.projections, report, run.path)
        report = report.model_copy(update={"paths": {"picture": str(picture), "report": str(run.report_path)}})
        publish_file(run.report_path, report.to_json().encode())
    return report


def _start(recipe: Recipe, table: ImageTable, listener: Listener) -> tuple[Context, Start]:
    """The network as it is when only a head is fitted, whatever else the recipe would do."""
    start = start_of(recipe, table, listener)
    for note in start.source.notes:
        listener.say(note)
    if start.source.weights_path is None:
        raise DataError(
            "a learning curve needs a pretrained network, whose features do not depend on the images",
            where="model",
            received=start.source.name,
            hint="name pretrained weights, for example with SORTAL_ZOO=folder-of-weights-cards",
        )
    if start.plan.stages != ("probe",):
        probe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 0, "freeze": "backbone"})})
        plan = make_plan(probe, table, start.source)
        start = replace(start, plan=plan, network=new_network(recipe, table, start.source, plan))
    context = Context(
        recipe=recipe,
        table=table,
        run=None,
        plan=start.plan,
        spec=start.plan.preprocess(recipe),
        listener=listener,
        deadline_s=None,
        source=start.source,
    )
    return context, start


def _measure(context: Context, parts: tuple[int, ...], train: Features, val: Features) -> Measured:
    choice = choose_head(context, train, val, parts)
    images, wrong = list[float](), list[NDArray[np.bool_]]()
    tried = points(np.bincount(train.labels, minlength=context.classes))
    for number, most in enumerate(tried):
        if number == len(tried) - 1:
            answers, size = [choice.head.logits(val.values).argmax(axis=1)], len(train.labels)
        else:
            answers, size = _draws(context, choice, train, val, most, number)
        images.append(size / len(np.unique(train.labels)))
        wrong.append(np.stack(answers) != val.labels)
        context.listener.say(f"{images[-1]:6.1f} images a class: accuracy {1 - wrong[-1].mean():.4f}")
    projections = project(np.array(images), wrong, FACTORS, seed=context.recipe.seed)
    return Measured(images=np.array(images), wrong=wrong, projections=projections)


def _draws(
    context: Context, choice: HeadChoice, train: Features, val: Features, most: int, point: int
) -> tuple[list[NDArray[np.int64]], int]:
    """Answers of the heads of some draws, and how many images a draw has. The first draw chooses the penalty."""
    answers, penalty = list[NDArray[np.int64]](), 1.0
    rows = np.zeros(0, np.int64)
    for draw in range(DRAWS):
        rows = subset(train.labels, most, generator(context.recipe.seed, "folds", epoch=1 + point, index=draw))
        part = Features(values=train.values[rows], labels=train.labels[rows], rows=train.rows[rows])
        if draw == 0:
            penalty = _best_penalty(context, choice, part, val)
        answers.append(_fit(context, choice, part, penalty).logits(val.values).argmax(axis=1))
    return answers, len(rows)


def _best_penalty(context: Context, choice: HeadChoice, part: Features, val: Features) -> float:
    best, found = _PENALTIES[0], None
    for penalty in _PENALTIES:
        scores: Scores = score(_fit(context, choice, part, penalty).logits(val.values), val.labels)
        if scores.better(found, context.recipe.train.metric):
            best, found = penalty, scores
    return best


def _fit(context: Context, choice: HeadChoice, part: Features, penalty: float) -> LinearHead:
    """The chosen kind of head on few images, found in the space that they span (the minimum lies there: the penalty
    keeps weights out of all other directions), which takes a fraction of the time. A strength is relative to the mean
    variance of a feature, so it changes with their number."""
    scaled = part.values.astype(np.float64) * choice.scales
    width = scaled.shape[1]
    axes = np.linalg.qr(scaled.T)[0] if len(scaled) < width else np.eye(width)
    strength = choice.strength * penalty * axes.shape[1] / width
    inside = replace(choice, strength=strength, scales=np.ones(axes.shape[1]))
    head = fit_chosen(context, inside, replace(part, values=(scaled @ axes).astype(np.float32)))
    return replace(head, weight=(head.weight @ axes.T) * choice.scales)


def _report(
    table: ImageTable, train: Features, val: Features, measured: Measured, recipe: Recipe, start: Start
) -> Report:
    now = 1 - float(measured.errors[-1].mean())
    low, high = wilson(round(now * len(val.labels)), len(val.labels), recipe.evaluate.confidence)
    metrics = {"accuracy": Metric(value=now, low=float(low), high=float(high), n=len(val.labels))}
    for factor, found in zip(FACTORS, measured.projections, strict=True):
        metrics[f"accuracy_with_{factor:g}x_images"] = Metric(
            value=1 - found.error, low=1 - found.high, high=1 - found.low
        )
        metrics[f"gain_of_{factor:g}x_images"] = Metric(value=found.gain, low=found.gain_low, high=found.gain_high)
    rows = tuple(
        (
            round(float(images), 1),
            round(1 - float(errors.mean()), 4),
            round(1 - float(errors.max()), 4),
            round(1 - float(errors.min()), 4),
            len(errors),
        )
        for images, errors in zip(measured.images, measured.errors, strict=True)
    )
    return Report(
        kind="learning_curve",
        subject=table.source,
        data_digest=table.content_digest,
        metrics=metrics,
        tables={
            "curve": Table(columns=("images a class", "accuracy", "lowest", "highest", "draws"), rows=rows),
            "classes": _class_table(table, train, val, measured, recipe.evaluate.confidence),
        },
        findings=(_verdict(now, measured, len(val.labels)), *_unjudged(table, val)),
        provenance={
            "recipe_digest": recipe.digest,
            "judged_on": "validation images",
            "model": start.source.architecture,
            "ranges": "accuracy: Wilson, measured; projections and gains: 80 % of resamples",
        },
    )


def _class_table(table: ImageTable, train: Features, val: Features, measured: Measured, confidence: float) -> Table:
    """Classes by the gain that twice their images promise, the largest first; those without a judge come last."""
    classes, final = len(table.labels), measured.wrong[-1].mean(axis=0) > 0.5
    counts, held = (np.bincount(part.labels, minlength=classes).astype(np.int64) for part in (train, val))
    wrong = np.bincount(val.labels[final], minlength=classes).astype(np.int64)
    means = np.array([errors.mean() for errors in measured.errors])
    gains = class_gains(fit_power_law(measured.images, means, judged=len(val.labels)), counts, wrong, held)
    low, high = wilson(held - wrong, np.maximum(held, 1), confidence)
    order = np.argsort(-np.nan_to_num(gains, nan=-1.0), kind="stable")
    rows = tuple(
        (
            table.labels.names[c],
            int(counts[c]),
            int(held[c]),
            *(
                (None, None, None, None)
                if np.isnan(gains[c])
                else (
                    round(1 - wrong[c] / held[c], 4),
                    round(float(low[c]), 4),
                    round(float(high[c]), 4),
                    round(float(gains[c]), 4),
                )
            ),
        )
        for c in order
    )
    columns = ("class", "training images", "validation images", "recall now", "recall low", "recall high", "gain of 2x")
    return Table(columns=columns, rows=rows)


def _verdict(now: float, measured: Measured, judged: int) -> Finding:
    twice = measured.projections[0]
    sure = f"{max(0.0, twice.gain_low):.1%} to {twice.gain_high:.1%} in 80 % of resamples, {judged} images judge"
    shown = f"from {now:.1%} to about {1 - twice.error:.1%} (a gain of {twice.gain:.1%}; {sure})"
    if twice.gain < ENOUGH:
        message = f"Twice the images would bring little: {shown}. Another network, input size or fine-tuning may."
        return Finding(code="enough_images", severity="info", message=message, hint="train.freeze=none fine-tunes")
    message = f"Twice the images of every class would raise accuracy {shown}."
    hint = "the classes at the top of the table gain most"
    return Finding(code="more_images_help", severity="info", message=message, hint=hint)


def _unjudged(table: ImageTable, val: Features) -> tuple[Finding, ...]:
    held = np.bincount(val.labels, minlength=len(table.labels))
    names = tuple(table.labels.names[c] for c in np.flatnonzero(held == 0))
    if not names:
        return ()
    message = f"{len(names)} of {len(held)} classes have no validation image, so nothing is said about what they gain"
    return (Finding(code="unjudged_classes", severity="warning", message=message, rows=names[:1000]),)
