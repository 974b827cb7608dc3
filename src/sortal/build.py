"""The story of `sortal train`: from a table of images to a run folder with a bundle, a report and pictures.

Composes data -> train -> export -> evaluate; what each step does lives in its package. No test image is touched before
the evaluation, and that reading is logged.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.choose import choose_model
from sortal.core.bundle import BundleContents, write_bundle
from sortal.core.canonical import pretty
from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError, ImageError, SortalError
from sortal.core.preprocess import Pixels, PreprocessSpec, normalize
from sortal.core.progress import Listener, Silent, duration
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run
from sortal.data.scan import scan
from sortal.data.split import check_leaks, split
from sortal.data.split_file import save_split
from sortal.data.table import COLUMNS, SPLITS, ImageTable
from sortal.export.graph import export_onnx
from sortal.export.head import set_head
from sortal.export.publish import publish_artifacts
from sortal.memory import mark_finished, write_state
from sortal.models.backbones import record
from sortal.models.network import Network
from sortal.models.resolve import ModelSource, resolve
from sortal.models.weights import weights_bytes
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.train.context import feature_key
from sortal.train.features import Extractor, Features, extract
from sortal.train.fit import FitResult, fit, new_network
from sortal.train.plan import Plan, make_plan
from sortal.train.store import read_image
from sortal.train.team import SOLO, Team, team_of_environment
from sortal.train.trackers import Trackers, start_trackers
from sortal.verdict import evaluated_split, final_report

PARITY_IMAGES = 64
"""Real images whose decisions are compared before a graph is published; benchmarks/onnx_parity.py takes 500."""
CLOSING_S = 8.0
"""Seconds of a time budget for export, parity and pictures, about; the evaluation comes on top, from a measurement."""


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished run: its folder and its report."""

    path: Path
    report: Report

    @property
    def bundle(self) -> Path:
        """The classifier, a folder."""
        return self.path / "bundle"


class _Both:
    """A listener that also writes sentences into the run's log."""

    def __init__(self, run: RunFolder, listener: Listener):
        self._run, self._listener = run, listener

    def say(self, text: str) -> None:
        """To the person and to the log."""
        self._run.log(text)
        self._listener.say(text)

    def progress(self, stage: str, done: int, total: int) -> None:
        """To the person alone."""
        self._listener.progress(stage, done, total)


def build(
    table: ImageTable,
    recipe: Recipe,
    *,
    out: Path,
    subject: str,
    listener: Listener,
    started_s: float,
    origin: Mapping[str, Any] | None = None,
    replayed: Plan | None = None,
    divided: bool = False,
) -> TrainedRun:
    """Train on `table` as `recipe` says and leave a run under `out`. See `api.train` for the errors.

    `started_s`, on `time.monotonic`, is when the command began: a time budget counts from there. `origin` says where
    the images came from, as plain data, so that the run can be taken up again. `replayed` is the plan of another run.
    `divided`: the table is scanned and split already.
    """
    with team_of_environment() as team:
        said = listener if team.leads else Silent()
        images = table if divided else divide(table, recipe, said)
        start = start_of(recipe, images, said, team, replayed)
        if not team.leads:
            return _assist(start, recipe, images, team, started_s)
        with new_run(out, subject) as run, _tidied(run):
            told = _Both(run, said)
            _record(run, recipe, start.plan, images, told, origin or {})
            return _complete(run, recipe, images, start, told, team, started_s, resuming=False)


def go_on(
    run: RunFolder, recipe: Recipe, plan: Plan, table: ImageTable, *, listener: Listener, started_s: float
) -> TrainedRun:
    """Go on with a run that was broken off, from its newest checkpoint. `table` is scanned and split as it was."""
    with team_of_environment() as team:
        start = start_of(recipe, table, listener if team.leads else Silent(), team, plan)
        if not team.leads:
            return _assist(start, recipe, table, team, started_s, resuming=run)
        with _tidied(run, keep=True):
            told = _Both(run, listener)
            told.say(f"{run.path}: taken up again")
            return _complete(run, recipe, table, start, told, team, started_s, resuming=True)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights, plan and network that training begins with."""

    source: ModelSource
    plan: Plan
    network: Network


def start_of(
    recipe: Recipe, table: ImageTable, listener: Listener, team: Team = SOLO, replayed: Plan | None = None
) -> Start:
    """Weights, plan (that of process 0) and network. Weights that do not fit are refused before there is a run."""
    source = _source(recipe, table, listener, team, replayed)
    plan = replayed or make_plan(recipe, table, source, processes=team.size)
    plan = Plan.model_validate(team.tell(plan.model_dump(mode="json")))
    return Start(source=source, plan=plan, network=new_network(recipe, table, source, plan))


def _source(recipe: Recipe, table: ImageTable, listener: Listener, team: Team, replayed: Plan | None) -> ModelSource:
    """The weights to start from; where `auto` has a choice, process 0 makes it."""
    card = replayed.model if replayed else None
    if replayed is None:
        chosen = choose_model(recipe, table, listener) if team.leads else None
        card = team.tell(None if chosen is None else chosen.card)
        if chosen is not None:
            return chosen
    return resolve(
        card or recipe.model.name,
        recipe.model.weights,
        recipe.model.arguments,
        size_px=_typical_size_px(table),
        say=listener.say,
    )


def _complete(
    run: RunFolder,
    recipe: Recipe,
    table: ImageTable,
    start: Start,
    told: Listener,
    team: Team,
    started_s: float,
    *,
    resuming: bool,
) -> TrainedRun:
    team.tell(str(run.path))
    tracked = start_trackers(recipe.train.trackers, run.path, recipe, start.plan, told)
    fitted = _fit(recipe, table, run, start, told, team, tracked, started_s, resuming=resuming)
    _publish(run, recipe, table, start, fitted, told)
    report = final_report(run, recipe, table, fitted, told)
    tracked.finish(report, pictures=(run.train_batch_path, run.confusion_image_path))
    if fitted.stopped != "interrupted":
        mark_finished(run)
        shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
    told.say(f"finished after {duration(time.monotonic() - started_s)}")
    team.wait()
    return TrainedRun(path=run.path, report=report)


def _assist(
    start: Start, recipe: Recipe, table: ImageTable, team: Team, started_s: float, resuming: RunFolder | None = None
) -> TrainedRun:
    """The part of the other processes: they train, write nothing, and wait for process 0."""
    path = Path(team.tell(None))
    _fit(recipe, table, resuming, start, Silent(), team, None, started_s, resuming=resuming is not None)
    team.wait()
    report = Report.from_json((path / "report.json").read_text(encoding="utf-8"))
    return TrainedRun(path=path, report=report)


def divide(table: ImageTable, recipe: Recipe, listener: Listener) -> ImageTable:
    """Scanned and split; refused where it cannot be learned."""
    scanned = scan(table, progress=lambda done, total: listener.progress("reading", done, total))
    _check_readable(scanned)
    _check_labels(scanned)
    divided = split(scanned, val=recipe.data.split.val, test=recipe.data.split.test, seed=recipe.seed)
    _check_classes(divided)
    return divided.with_findings(*check_leaks(divided))


def _check_readable(scanned: ImageTable) -> None:
    if len(scanned):
        return
    codes = Counter(scanned.rejected["code"].to_list())
    raise DataError(
        "none of the images can be read",
        where=scanned.source,
        received=", ".join(f"{count:,} × {code}" for code, count in codes.most_common()) or None,
        hint=f"the first: {scanned.rejected['name'][0]}: {scanned.rejected['reason'][0]}" if codes else None,
    )


def _check_labels(table: ImageTable) -> None:
    if (table.label_array() >= 0).any():
        return
    columns = [name for name in table.frame.columns if name not in COLUMNS and not name.startswith("_")]
    named = f"name the label column, for example data.label={columns[0]}" if columns else "fill in the label column"
    raise DataError(
        "no image has a label",
        where=table.source,
        received=f"other columns: {', '.join(columns[:10])}" if columns else f"{len(table):,} images without a class",
        hint=f"put the images of each class into a folder of its own, or {named}",
    )


def _check_classes(table: ImageTable) -> None:
    """At least two classes to train on, and none that is to be recognized without ever being shown."""
    trained = np.unique(table.label_array()[table.split_rows("train")])
    if (trained >= 0).sum() < 2:
        names = ", ".join(table.labels.names[label] for label in trained if label >= 0)
        raise DataError(
            "a classifier needs training images of at least two classes",
            where=table.source,
            received=f"images of {names or 'no class'}",
            hint="put the images of each class into a folder of its own",
        )
    for found in table.findings:
        if found.code == "class_not_in_train":
            raise DataError(found.message, where=table.source, hint=found.hint)


def _typical_size_px(table: ImageTable) -> int | None:
    sizes = table.frame.select("_width", "_height").drop_nulls().to_numpy()
    return int(np.median(sizes.min(axis=1))) if len(sizes) else None


def _record(
    run: RunFolder, recipe: Recipe, plan: Plan, table: ImageTable, told: Listener, origin: Mapping[str, Any]
) -> None:
    publish_file(run.recipe_path, recipe.to_yaml().encode())
    publish_file(run.plan_path, pretty(plan.model_dump(mode="json")).encode())
    write_state(run, table, origin)
    save_split(table, run.split_path)
    counts = ", ".join(f"{len(table.split_rows(name)):,} {name}" for name in SPLITS if len(table.split_rows(name)))
    told.say(f"{run.path}: {len(table):,} images of {len(table.labels)} classes ({counts})")
    for note in plan.notes:
        told.say(f"  {note}")
    for finding in table.findings:
        told.say(f"  {finding.severity}: {finding.message}")


def _fit(
    recipe: Recipe,
    table: ImageTable,
    run: RunFolder | None,
    start: Start,
    told: Listener,
    team: Team,
    trackers: Trackers | None,
    started_s: float,
    *,
    resuming: bool,
) -> FitResult:
    """Fit; a probe takes its features from the exported graph, two to three times faster than the live network."""
    plan, network = start.plan, start.network
    budget_s = recipe.train.time
    deadline_s = (
        None if budget_s is None else started_s + budget_s - _closing_s(network, table, plan.preprocess(recipe))
    )
    with _graph_extractor(recipe, run if team.leads else None, plan, network) as extractor:
        return fit(
            recipe,
            table,
            run,
            source=start.source,
            plan=plan,
            listener=told,
            network=network,
            extractor=extractor,
            deadline_s=deadline_s,
            team=team,
            trackers=trackers,
            resuming=resuming,
            started_s=started_s,
        )


@contextmanager
def _graph_extractor(recipe: Recipe, run: RunFolder | None, plan: Plan, network: Network) -> Iterator[Extractor | None]:
    """Where only a head will be fitted: the network's backbone on an engine. The graph stays in the cache."""
    if plan.stages != ("probe",) or run is None or not network.linear_head:
        yield None
        return
    graph = export_onnx(network, plan.preprocess(recipe), _graph_path(run))
    engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=plan.threads)
    try:
        yield lambda batch: engine.run(batch).embedding
    finally:
        engine.close()


def engine_features(recipe: Recipe, table: ImageTable, start: Start, listener: Listener) -> tuple[Features, Features]:
    """Frozen features of the training and the validation images, computed by the exported graph or taken from the
    cache."""
    spec = start.plan.preprocess(recipe)
    with tempfile.TemporaryDirectory(prefix="sortal-") as folder:
        graph = export_onnx(start.network, spec, Path(folder) / "model.onnx")
        engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=start.plan.threads)
        try:
            train, val = (
                extract(
                    table,
                    table.split_rows(split),
                    spec,
                    lambda batch: engine.run(batch).embedding,
                    threads=start.plan.workers,
                    listener=listener,
                    stage=f"features of {split} images",
                    key=feature_key(start.source, recipe, "onnxruntime", start.network.pooling.kind),
                )[0]
                for split in ("train", "val")
            )
        finally:
            engine.close()
    return train, val


@contextmanager
def _tidied(run: RunFolder, *, keep: bool = False) -> Iterator[None]:
    """What ends a run early is in its log; a run that came to nothing is removed, unless it is to be kept; scratch
    files always are."""
    try:
        yield
    except BaseException as error:
        if not keep and not run.metrics_path.exists() and not (run.path / "checkpoints").exists():
            run.discard()
        else:
            with suppress(SortalError):
                run.log(f"ended early: {error if isinstance(error, SortalError) else type(error).__name__}")
        raise
    finally:
        shutil.rmtree(run.path / "cache", ignore_errors=True)


def _closing_s(network: Network, table: ImageTable, spec: PreprocessSpec) -> float:
    """About how long all that follows the fit will take, from reading and answering 16 training images here and now."""
    images, rows = len(table.split_rows(evaluated_split(table))), table.split_rows("train")[:16]
    times_s = []
    for _ in range(2):  # the first pass warms up
        begun_s = time.monotonic()
        batch = normalize(spec, _prepared(table, rows, spec))
        with torch.inference_mode():
            network.eval()(torch.from_numpy(batch))
        times_s.append(time.monotonic() - begun_s)
    return CLOSING_S + min(times_s) / len(rows) * images


def _publish(
    run: RunFolder,
    recipe: Recipe,
    table: ImageTable,
    start: Start,
    fitted: FitResult,
    told: Listener,
) -> None:
    """Bundle, then its artifacts, each compared with the live network on real images before it is attached."""
    graph = _graph_path(run)
    if start.plan.stages == ("probe",) and fitted.network.linear_head and graph.exists():
        linear = fitted.network.linear
        set_head(graph, linear.weight.detach().numpy(), linear.bias.detach().numpy())
    else:
        export_onnx(fitted.network, fitted.spec, graph)
    contents = BundleContents(
        labels=table.labels,
        preprocess=fitted.spec,
        decision=DecisionSpec(),
        model=record(fitted.network, source=_origin(start.source)),
        weights_licence=start.source.licence,
        weights=weights_bytes(fitted.network),
        contract=recipe.contract,
        recipe=recipe,
        data_digest=table.content_digest,
    )
    write_bundle(run.bundle, contents, replace=True)  # a run that is taken up again may have published one
    pixels = _some_pixels(table, fitted.spec)
    report = publish_artifacts(run.bundle, graph, fitted.network, pixels, names=recipe.export.artifacts)
    flips, margin = report.metrics["flips"].value, report.metrics["smallest_margin"].value
    told.say(
        f"exported graph: {flips:.0f} of {len(pixels)} decisions differ from the live network's "
        f"(closest margin {margin:.2g})"
    )


def _graph_path(run: RunFolder) -> Path:
    folder = run.path / "cache"
    folder.mkdir(exist_ok=True)
    return folder / "model.onnx"


def _origin(source: ModelSource) -> str:
    return source.source if source.sha256 is None else f"{source.source} sha256:{source.sha256}"


def _some_pixels(table: ImageTable, spec: PreprocessSpec) -> Pixels:
    """Up to 64 prepared images (N, height, width, channels), spread over validation (training where there is none)."""
    rows = table.split_rows("val") if len(table.split_rows("val")) else table.split_rows("train")
    return _prepared(
        table, rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), PARITY_IMAGES)).astype(np.int64))], spec
    )


def _prepared(table: ImageTable, rows: NDArray[np.int64], spec: PreprocessSpec) -> Pixels:
    """The readable ones of some rows (N, height, width, channels). Raises DataError when there is none."""
    found = []
    for row in rows:
        with suppress(ImageError):  # the fit makes a finding of it
            found.append(read_image(table, int(row), spec))
    if not found:
        raise DataError("none of the images can be read", where=table.source, received=f"{len(rows)} tried")
    return np.stack(found)
