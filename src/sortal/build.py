"""The story of `sortal train`: from a table of images to a run folder with a bundle, a report and pictures.

Composes data -> train -> export -> evaluate; what each step does lives in its package. No test image is touched before
the evaluation, and that reading is logged.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sortal.core.bundle import BundleContents, open_bundle, write_bundle, write_card
from sortal.core.canonical import pretty
from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError, ImageError
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.progress import Listener, duration
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Cell, Finding, Report
from sortal.core.run import RunFolder, new_run
from sortal.data.scan import scan
from sortal.data.split import check_leaks, split
from sortal.data.split_file import save_split
from sortal.data.table import SPLITS, ImageTable
from sortal.evaluate.study import measure, write_study
from sortal.export.graph import export_onnx
from sortal.export.head import set_head
from sortal.export.publish import publish_artifacts
from sortal.models.catalog import count_macs
from sortal.models.network import Network
from sortal.models.resolve import ModelSource, resolve
from sortal.models.weights import weights_bytes
from sortal.pictures import draw_run, run_pictures
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.train.features import Extractor
from sortal.train.fit import FitResult, fit, new_network
from sortal.train.plan import Plan, make_plan
from sortal.train.store import read_image

PARITY_IMAGES = 64
"""Real images whose decisions are compared before a graph is published; benchmarks/onnx_parity.py takes 500."""
RESERVE_S = 12.0
"""Seconds of a time budget that export, parity and the report take beside the evaluation itself."""


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


def build(table: ImageTable, recipe: Recipe, *, out: Path, subject: str, listener: Listener) -> TrainedRun:
    """Train on `table` as `recipe` says and leave a run under `out`. See `api.train` for the errors."""
    started_s = time.monotonic()
    divided = _divide(table, recipe, listener)
    source = resolve(
        recipe.model.name,
        recipe.model.weights,
        recipe.model.arguments,
        size_px=_typical_size_px(divided),
        say=listener.say,
    )
    plan = make_plan(recipe, divided, source)
    with new_run(out, subject) as run:
        told = _Both(run, listener)
        _record(run, recipe, plan, divided, told)
        fitted = _fit(recipe, divided, run, source, plan, listener, started_s)
        _publish(run, recipe, divided, source, plan, fitted, told)
        report = _report(run, recipe, divided, fitted, told)
        told.say(f"finished after {duration(time.monotonic() - started_s)}")
    return TrainedRun(path=run.path, report=report)


def _divide(table: ImageTable, recipe: Recipe, listener: Listener) -> ImageTable:
    """Scanned, split, and refused where it cannot be learned or leaks."""
    scanned = scan(table, progress=lambda done, total: listener.progress("reading", done, total))
    if not len(scanned):
        raise DataError("none of the images can be read", where=table.source, received=f"{len(table)} files")
    divided = split(scanned, val=recipe.data.split.val, test=recipe.data.split.test, seed=recipe.seed)
    trained = np.unique(divided.label_array()[divided.split_rows("train")])
    if (trained >= 0).sum() < 2:
        names = ", ".join(divided.labels.names[label] for label in trained if label >= 0)
        raise DataError(
            "a classifier needs training images of at least two classes",
            where=table.source,
            received=f"images of {names or 'no class'}",
            hint="put the images of each class into a folder of its own",
        )
    return divided.with_findings(*check_leaks(divided))


def _typical_size_px(table: ImageTable) -> int | None:
    sizes = table.frame.select("_width", "_height").drop_nulls().to_numpy()
    return int(np.median(sizes.min(axis=1))) if len(sizes) else None


def _record(run: RunFolder, recipe: Recipe, plan: Plan, table: ImageTable, told: Listener) -> None:
    publish_file(run.recipe_path, recipe.to_yaml().encode())
    publish_file(run.plan_path, pretty(plan.model_dump(mode="json")).encode())
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
    run: RunFolder,
    source: ModelSource,
    plan: Plan,
    listener: Listener,
    started_s: float,
) -> FitResult:
    """Fit; a probe takes its features from the exported graph, two to three times faster than the live network."""
    budget_s = recipe.train.time
    deadline_s = None if budget_s is None else started_s + budget_s - RESERVE_S
    with _graph_extractor(recipe, table, run, source, plan) as (network, extractor):
        return fit(
            recipe,
            table,
            run,
            source=source,
            plan=plan,
            listener=listener,
            network=network,
            extractor=extractor,
            deadline_s=deadline_s,
        )


@contextmanager
def _graph_extractor(
    recipe: Recipe, table: ImageTable, run: RunFolder, source: ModelSource, plan: Plan
) -> Iterator[tuple[Network | None, Extractor | None]]:
    """Where only a head will be fitted: the network, and its backbone on an engine. The graph stays in the cache."""
    if plan.stages != ("probe",):
        yield None, None
        return
    network = new_network(recipe, table, source, plan)
    graph = export_onnx(network, plan.preprocess(recipe), _graph_path(run))
    engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=plan.threads)
    try:
        yield network, lambda batch: engine.run(batch).embedding
    finally:
        engine.close()


def _publish(
    run: RunFolder,
    recipe: Recipe,
    table: ImageTable,
    source: ModelSource,
    plan: Plan,
    fitted: FitResult,
    told: Listener,
) -> None:
    """Bundle, then its artifacts, each compared with the live network on real images before it is attached."""
    graph = _graph_path(run)
    if plan.stages == ("probe",):
        linear = fitted.network.linear
        set_head(graph, linear.weight.detach().numpy(), linear.bias.detach().numpy())
    else:
        export_onnx(fitted.network, fitted.spec, graph)
    contents = BundleContents(
        labels=table.labels,
        preprocess=fitted.spec,
        decision=DecisionSpec(),
        model=_model_spec(fitted.network, source),
        weights_licence=source.licence,
        weights=weights_bytes(fitted.network),
        contract=recipe.contract,
        recipe=recipe,
        data_digest=table.content_digest,
    )
    write_bundle(run.bundle, contents)
    pixels = _some_pixels(table, fitted.spec)
    report = publish_artifacts(run.bundle, graph, fitted.network, pixels, names=recipe.export.artifacts)
    flips, margin = report.metrics["flips"].value, report.metrics["smallest_margin"].value
    told.say(
        f"exported graph: {flips:.0f} of {len(pixels)} decisions differ from the live network's "
        f"(closest margin {margin:.2g})"
    )
    shutil.rmtree(graph.parent, ignore_errors=True)


def _graph_path(run: RunFolder) -> Path:
    folder = run.path / "cache"
    folder.mkdir(exist_ok=True)
    return folder / "model.onnx"


def _model_spec(network: Network, source: ModelSource) -> ModelSpec:
    origin = source.source if source.sha256 is None else f"{source.source} sha256:{source.sha256}"
    return ModelSpec(
        architecture=network.architecture,
        arguments=dict(network.arguments),
        identity=tuple(network.identity),
        classes=network.classes,
        embedding=network.embedding_dim,
        parameters=network.parameter_count,
        source=origin,
    )


def _some_pixels(table: ImageTable, spec: PreprocessSpec) -> Pixels:
    """Up to 64 prepared images (N, height, width, channels), spread over validation (training where there is none)."""
    rows = table.split_rows("val") if len(table.split_rows("val")) else table.split_rows("train")
    prepared = []
    for row in rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), PARITY_IMAGES)).astype(np.int64))]:
        with suppress(ImageError):  # already a finding of the fit
            prepared.append(read_image(table, int(row), spec))
    return np.stack(prepared)


def _report(run: RunFolder, recipe: Recipe, table: ImageTable, fitted: FitResult, told: Listener) -> Report:
    """Evaluate the exported classifier on the test split, or on validation where there is none, and draw."""
    name = next((split for split in ("test", "val", "train") if len(table.split_rows(split))), "train")
    if name == "test":
        run.log_test_read("final evaluation of sortal train")
    with open_classifier(run.bundle) as classifier:
        study = measure(
            classifier,
            table.select(table.split_rows(name)),
            listener=told,
            settings=recipe.evaluate,
            split=name,
            train_counts=_counts(table),
            facts=_facts(run, fitted),
            findings=[*fitted.findings, *_split_findings(name)],
        )
    study = replace(study, report=_with_provenance(study.report, run, recipe))
    draw_run(run, table, fitted)
    report = write_study(study, run.path, pictures=run_pictures(run))
    write_card(run.bundle, report.to_markdown(max_rows=60))
    return report


def _counts(table: ImageTable) -> NDArray[np.int64]:
    labels = table.label_array()[table.split_rows("train")]
    return np.bincount(labels[labels >= 0], minlength=len(table.labels)).astype(np.int64)


def _facts(run: RunFolder, fitted: FitResult) -> dict[str, Cell]:
    """What the model costs, counted on the network and measured on its files."""
    network, bundle = fitted.network, open_bundle(run.bundle)
    files = [path for name in bundle.artifacts() for path in bundle.artifact(name).iterdir()]
    return {
        "architecture": network.architecture,
        "parameters": network.parameter_count,
        "multiply-accumulates an image": count_macs(network, torch.zeros(1, fitted.spec.channels, *fitted.spec.size)),
        "exported files, MB": round(sum(path.stat().st_size for path in files) / 1e6, 2),
        "licence of the weights": bundle.manifest.weights_licence,
    }


def _split_findings(name: str) -> list[Finding]:
    if name == "test":
        return []
    severity: Literal["warning", "error"] = "warning" if name == "val" else "error"
    what = "chose the best epoch or the strength of the head" if name == "val" else "the classifier was trained on"
    message = f"There is no test split: these numbers are of the {name} images, which {what}, so they flatter."
    hint = "set data.split.test, or evaluate on images of your own: sortal evaluate"
    return [Finding(code="no_test_split", severity=severity, message=message, hint=hint)]


def _with_provenance(report: Report, run: RunFolder, recipe: Recipe) -> Report:
    more = {
        "run": run.name,
        "recipe_digest": recipe.digest,
        "seed": recipe.seed,
        "test_reads": len(run.test_reads()),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("sortal", "torch", "timm", "onnxruntime", "pillow", "numpy")},
    }
    return report.model_copy(update={"provenance": {**report.provenance, **more}})
