"""Short looks at a training before it is run: what its augmentation does, which rate it bears, where its time goes.

Each builds what `sortal train` would build from the same recipe, on as few images as the look needs, leaves a numbered
folder with a report and a picture (or a trace), and says what to type next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.errors import DataError, ImageError, InputError
from sortal.core.preprocess import Pixels
from sortal.core.progress import Listener, Silent
from sortal.core.publish import machine_error, publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Finding, Metric, Report, Table
from sortal.core.run import new_run
from sortal.data.decode import to_pixels
from sortal.data.table import ImageTable
from sortal.divide import divide
from sortal.models.resolve import resolve
from sortal.start import Start, start_of
from sortal.train.augment import ClassFacts
from sortal.train.augment.preview import LIMIT, draw_preview
from sortal.train.context import Context
from sortal.train.features import live_extractor
from sortal.train.fit import fit, new_network, reproducible
from sortal.train.gradient import training_batches
from sortal.train.linear import fit_probe
from sortal.train.loader import TrainLoader
from sortal.train.losses import make_loss
from sortal.train.plan import make_plan
from sortal.train.profile import EnoughError, profiled
from sortal.train.rate_finder import RateCurve, draw_rate_curve, find_rate
from sortal.train.remedies import settled, with_remedy

_SKIP = 3
"""Steps before a profile begins: the first ones allocate memory and choose algorithms."""


def preview(
    table: ImageTable, recipe: Recipe, *, out: Path | None, subject: str, listener: Listener | None = None
) -> Report:
    """Draw up to 8 training images, of different classes where there are, as the augmentation varies them. See
    `explore.preview_augmentation`."""
    divided = divide(table, recipe, listener or Silent())
    source = resolve(recipe.model.name, recipe.model.weights, recipe.model.arguments)
    plan = make_plan(recipe, divided, source)
    labels, rows = divided.label_array(), _labeled(divided, "train")
    facts = ClassFacts(
        names=divided.labels.names, counts=np.bincount(labels[rows], minlength=len(divided.labels)).astype(np.int64)
    )
    shown = _some_of_each(rows, labels[rows], LIMIT)
    images, kept = _upright(divided, shown, recipe)
    with _folder(out, f"{subject}-augment") as folder:
        spec, path = plan.preprocess(recipe), folder / "augmentation.png"
        drawn = draw_preview(images, labels[kept].tolist(), divided.labels.names, recipe.augment, spec, facts, out=path)
        families = tuple(
            (family, "on" if family in recipe.augment.families else "off")
            for family in ("geometric", "color", "advanced")
        )
        report = Report(
            kind="augmentation",
            subject=divided.source,
            metrics={"images": Metric(value=float(len(images)))},
            tables={"families": Table(columns=("family", "acts"), rows=families)},
            findings=_undrawn(drawn.undrawn),
            paths={"picture": str(path), "report": str(folder / "report.json")},
            provenance={"recipe_digest": recipe.digest, "policy": recipe.augment.name, "size": list(plan.size)},
        )
        publish_file(folder / "report.json", report.to_json().encode())
    return report


def range_test(
    table: ImageTable,
    recipe: Recipe,
    *,
    steps: int,
    out: Path | None,
    subject: str,
    listener: Listener | None = None,
) -> Report:
    """Find the rate on the recipe's own network, batches and loss. See `explore.find_rate`."""
    said = listener or Silent()
    start, context = _gradient_start(table, recipe, said, steps=steps)
    plan, network = start.plan, start.network
    with reproducible(plan.threads), _folder(out, f"{subject}-find-lr") as folder:
        if "probe" in plan.stages:
            said.say("a linear head on frozen features first, as training would begin")
            fit_probe(context, network, live_extractor(network), engine="live")
        context = with_remedy(context, settled(context))
        with training_batches(context, network) as loader:
            if plan.freeze == "backbone":
                network.freeze_stages(0)
            curve = find_rate(
                network,
                _Epochs(loader=loader, listener=said, steps=steps),
                _loss(context),
                recipe.optim,
                steps=steps,
                backbone_share=plan.backbone_lr / plan.lr,
                layer_decay=plan.layer_decay,
                seed=recipe.seed,
            )
        draw_rate_curve(curve, folder / "lr_finder.png")
        report = _rate_report(context, curve, folder, steps)
        publish_file(folder / "report.json", report.to_json().encode())
    return report


def profile_steps(
    table: ImageTable,
    recipe: Recipe,
    *,
    steps: int,
    out: Path | None,
    subject: str,
    command: Sequence[str],
    listener: Listener | None = None,
) -> Report:
    """Measure real training steps of the recipe. See `explore.profile`."""
    said = listener or Silent()
    start, context = _gradient_start(table, recipe, said, steps=steps + _SKIP + 1)
    plan = start.plan.model_copy(update={"stages": ("gradient",)})
    train = context.table.select(context.table.split_rows("train"))
    with _folder(out, f"{subject}-profile") as folder:
        said.say(f"{steps} steps of {plan.batch} images at {plan.size[0]} x {plan.size[1]} px")
        with profiled(folder, steps=steps, skip=_SKIP, command=command) as measured:
            try:
                fit(context.recipe, train, source=start.source, plan=plan, network=start.network)
            except EnoughError:
                said.say(f"{measured.steps} steps measured")
        trace = folder / measured.report.paths["trace"]
        paths = {"trace": str(trace), "report": str(trace.parent / "report.json")}
        report = measured.report.model_copy(update={"subject": table.source, "paths": paths})
        publish_file(Path(paths["report"]), report.to_json().encode())
    return report


def _gradient_start(table: ImageTable, recipe: Recipe, listener: Listener, *, steps: int) -> tuple[Start, Context]:
    """Network, plan and a part of the images that is large enough for `steps` steps; a recipe that only fits a head on
    frozen features is looked at as if it fine-tuned."""
    divided = divide(table, recipe, listener)
    start = start_of(recipe, divided, listener)
    if "gradient" not in start.plan.stages:
        listener.say(
            "this recipe only fits a head on frozen features; looked at is train.freeze=none, which trains all"
        )
        recipe = recipe.model_copy(
            update={"train": recipe.train.model_copy(update={"freeze": "none", "epochs": "auto"})}
        )
        plan = make_plan(recipe, divided, start.source)
        start = Start(source=start.source, plan=plan, network=new_network(recipe, divided, start.source, plan))
    needed = steps * start.plan.batch
    rows = [_spread(divided.split_rows(split), count) for split, count in (("train", needed), ("val", needed // 4))]
    context = Context(
        recipe=recipe,
        table=divided.select(np.sort(np.concatenate(rows))),
        run=None,
        plan=start.plan,
        spec=start.plan.preprocess(recipe),
        listener=listener,
        deadline_s=None,
        source=start.source,
    )
    return start, context


@dataclass(frozen=True, kw_only=True)
class _Epochs:
    """The batches of one epoch after the other, for as many steps as are wanted, with progress."""

    loader: TrainLoader
    listener: Listener
    steps: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        done = 0
        for epoch in range(1 + self.steps // self.loader.steps):
            for batch in self.loader.epoch(epoch):
                done += 1
                self.listener.progress("range test", min(done, self.steps), self.steps)
                yield self.loader.finish(batch, torch.device("cpu"), torch.contiguous_format)


def _loss(context: Context) -> Callable[[Tensor, Tensor], Tensor]:
    parents = context.parents if context.recipe.loss.coarse > 0 else None
    return make_loss(context.recipe.loss, context.counts, remedy=context.remedy, parents=parents)


def _rate_report(context: Context, curve: RateCurve, folder: Path, steps: int) -> Report:
    plan, tried = context.plan, len(curve.rates)
    planned = f"the plan has optim.lr={plan.lr:g}, {plan.lr / curve.suggested:.2g} times as much"
    why = "" if curve.falls else ", a tenth of the highest rate that the fitted head bears; the loss falls at none"
    message = f"Train with optim.lr={curve.suggested:g}{why}; {planned}."
    findings = [Finding(code="suggested_rate", severity="info", message=message)]
    if tried < steps:
        diverged = f"The loss ran away at {curve.rates[-1]:.2g}, after {tried} of {steps} steps."
        findings.append(Finding(code="ran_away", severity="info", message=diverged))
    rows = tuple(
        (float(f"{rate:.4g}"), round(float(loss), 5)) for rate, loss in zip(curve.rates, curve.losses, strict=True)
    )
    return Report(
        kind="learning_rate",
        subject=context.table.source,
        metrics={
            "suggested": Metric(value=curve.suggested),
            "steepest": Metric(value=float(f"{curve.steepest:.3g}")),
            "least_loss_at": Metric(value=float(f"{curve.lowest:.3g}")),
            "steps": Metric(value=float(tried)),
        },
        tables={"curve": Table(columns=("rate", "loss, smoothed"), rows=rows)},
        findings=tuple(findings),
        paths={"picture": str(folder / "lr_finder.png"), "report": str(folder / "report.json")},
        provenance={"recipe_digest": context.recipe.digest, "planned": plan.lr, "batch": plan.batch},
    )


@contextmanager
def _folder(out: Path | None, subject: str) -> Iterator[Path]:
    """`out` itself, or a new numbered folder under `runs`, which is removed again where nothing came of it."""
    if out is not None:
        if (out / "bundle").exists() or (out / "recipe.yaml").exists():
            raise InputError("a run is here and is never overwritten", where=str(out), hint="name another folder")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise machine_error(error, out) from error
        yield out
        return
    with new_run(Path("runs"), subject) as run:
        try:
            yield run.path
        except BaseException:
            run.discard()
            raise


def _labeled(table: ImageTable, split: str) -> NDArray[np.int64]:
    rows = table.split_rows(split)
    return rows[table.label_array()[rows] >= 0]


def _spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if not len(rows):
        return rows
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), max(count, 1))).astype(np.int64))]


def _some_of_each(rows: NDArray[np.int64], labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Up to `limit` rows: the first of every class, then the second of every class, and so on, in table order."""
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    place = np.arange(len(order)) - np.searchsorted(ranked, ranked, side="left")
    chosen = order[np.lexsort((ranked, place))][:limit]
    return rows[np.sort(chosen)]


def _upright(table: ImageTable, rows: NDArray[np.int64], recipe: Recipe) -> tuple[list[Pixels], NDArray[np.int64]]:
    """The readable ones of some images, of any size, and their rows."""
    images, kept = list[Pixels](), list[int]()
    for row in rows.tolist():
        try:
            pixels = to_pixels(
                table.read(row), channels=recipe.input.channels, depth=recipe.input.depth, where=table.name(row)
            )
        except ImageError:
            continue
        images.append(pixels)
        kept.append(row)
    if not images:
        raise DataError("none of the training images can be read", where=table.source)
    return images, np.array(kept, dtype=np.int64)


def _undrawn(names: Sequence[str]) -> tuple[Finding, ...]:
    if not names:
        return ()
    message = "no installed font can draw some of the class names; the picture shows their numbers"
    hint = "install one, for example: apt-get install fonts-wqy-microhei"
    return (Finding(code="font", severity="info", message=message, rows=tuple(names), hint=hint),)
