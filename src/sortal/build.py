"""The story of `sortal train`: from a table of images to a run folder with a bundle, a report and pictures.

Composes data -> train -> export -> evaluate; what each step does lives in its package. No test image is touched before
the evaluation, and that reading is logged.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sortal.core.canonical import pretty
from sortal.core.errors import SortalError
from sortal.core.preprocess import PreprocessSpec, normalize
from sortal.core.progress import Listener, Silent, duration
from sortal.core.publish import publish_file
from sortal.core.recipe import Recipe
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run
from sortal.data.split_file import save_split
from sortal.data.table import SPLITS, ImageTable
from sortal.decide import decision_of_run
from sortal.divide import divide
from sortal.graphs import graph_extractor, prepared_pixels, publish
from sortal.memory import mark_finished, write_state
from sortal.models.network import Network
from sortal.start import Start, start_of
from sortal.strangers import acquaintance_passes
from sortal.train.finish import finish_passes
from sortal.train.fit import FitResult, fit
from sortal.train.plan import Plan
from sortal.train.team import Team, team_of_environment
from sortal.train.trackers import Trackers, start_trackers
from sortal.verdict import evaluated_split, final_report

CLOSING_S = 12.0
"""Seconds of a time budget for export, the unknown score, parity and pictures, about; the evaluation comes on top, from
a measurement."""


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
    decided = decision_of_run(recipe, table, start.plan, fitted)
    for sentence in decided.sentences():
        told.say(sentence)
    found = publish(run, recipe, table, start, fitted, decided.decision, told)
    fitted = replace(fitted, findings=(*fitted.findings, *found))
    report = final_report(run, recipe, table, fitted, decided, told)
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
        None if budget_s is None else started_s + budget_s - _closing_s(network, table, plan, plan.preprocess(recipe))
    )
    with graph_extractor(recipe, run if team.leads else None, plan, network) as extractor:
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


def _closing_s(network: Network, table: ImageTable, plan: Plan, spec: PreprocessSpec) -> float:
    """About how long all that follows gradient training will take, from reading and answering 16 training images here
    and now: the passes of the finish over training and validation images, the export with its embeddings, and the
    evaluation."""
    count = {split: len(table.split_rows(split)) for split in SPLITS}
    images, rows = count[evaluated_split(table)], table.split_rows("train")[:16]
    if "gradient" in plan.stages:
        images += finish_passes(plan, train=count["train"], val=count["val"])
        images += acquaintance_passes(train=count["train"], val=count["val"])
    times_s = []
    for _ in range(2):  # the first pass warms up
        begun_s = time.monotonic()
        batch = normalize(spec, prepared_pixels(table, rows, spec))
        with torch.inference_mode():
            network.eval()(torch.from_numpy(batch))
        times_s.append(time.monotonic() - begun_s)
    return CLOSING_S + min(times_s) / len(rows) * images
