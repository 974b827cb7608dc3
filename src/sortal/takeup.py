"""The stories of `sortal train --resume` and `sortal reproduce`: a run gone on with, and a run done again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sortal.build import TrainedRun, build, go_on
from sortal.core.bundle import open_bundle
from sortal.core.errors import DataError, InputError
from sortal.core.progress import Listener, Silent
from sortal.core.report import Finding, Metric, Report
from sortal.core.run import RunFolder
from sortal.core.team import leading
from sortal.data.open import images
from sortal.data.remote import is_remote
from sortal.data.table import ImageTable
from sortal.memory import Remembered, machine_differences, remember, same_images
from sortal.train.checkpoint import Shelf


def take_up(
    run: RunFolder, source: ImageTable | None, *, allow_data_change: bool, listener: Listener, started_s: float
) -> TrainedRun:
    """Go on with a run. See `api.resume`."""
    known = remember(run)
    listener = listener if leading() else Silent()
    started_s -= Shelf(run.path / "checkpoints").spent_s()
    table = same_images(_images(known, source, run), run, known, allow_data_change=allow_data_change, listener=listener)
    for difference in machine_differences(known):
        listener.say(
            f"warning: not as when this run began, so the result will not be the same to the bit: {difference}"
        )
    return go_on(run, known.recipe, known.plan, table, listener=listener, started_s=started_s)


def do_again(run: RunFolder, source: ImageTable | None, *, out: Path, listener: Listener, started_s: float) -> Report:
    """Train as a run did and compare. See `api.reproduce`."""
    known = remember(run)
    listener = listener if leading() else Silent()
    if not run.finished:
        raise InputError(
            "only a finished run can be reproduced", where=str(run.path), hint=f"sortal train --resume {run.path}"
        )
    table = same_images(_images(known, source, run), run, known, allow_data_change=False, listener=listener)
    again = build(
        table,
        known.recipe,
        out=out,
        subject=run.name,
        listener=listener,
        started_s=started_s,
        origin=known.origin,
        replayed=known.plan,
        divided=True,
    )
    return _compared(run, again, known)


def _compared(run: RunFolder, again: TrainedRun, known: Remembered) -> Report:
    before = Report.from_json(run.report_path.read_bytes(), where=str(run.report_path))
    same = _weights_digest(run.bundle) == _weights_digest(again.bundle)
    changes = {
        name: abs(metric.value - again.report.metrics[name].value)  # type: ignore[operator]
        for name, metric in before.metrics.items()
        if metric.value is not None and name in again.report.metrics and again.report.metrics[name].value is not None
    }
    worst = max(changes, key=lambda name: changes[name], default=None)
    metrics = {
        "same_weights": Metric(value=float(same)),
        "largest_change": Metric(value=changes[worst] if worst else 0.0, n=len(changes)),
    }
    return Report(
        kind="reproduction",
        subject=f"{run.path} -> {again.path}",
        data_digest=known.data_digest,
        metrics=metrics,
        tables={"numbers": before.compare(again.report)},
        findings=tuple(_findings(known, same=same)),
        provenance={"recipe_digest": known.recipe.digest, "again": str(again.path)},
    )


def _findings(known: Remembered, *, same: bool) -> list[Finding]:
    differences = machine_differences(known)
    found = []
    if differences:
        message = f"Not the machine or the packages of the first time: {', '.join(differences)}."
        found.append(Finding(code="other_machine", severity="warning", message=message))
    if not same and known.recipe.train.time is not None:
        message = "How many steps fit into a time budget depends on the clock, so the weights differ."
        found.append(
            Finding(code="time_budget", severity="info", message=message, hint="set train.epochs to repeat a run")
        )
    elif not same:
        message = "The weights are not the same."
        found.append(Finding(code="other_weights", severity="warning" if differences else "error", message=message))
    return found


def _images(known: Remembered, source: ImageTable | None, run: RunFolder) -> ImageTable:
    if source is not None:
        return source
    where = known.origin.get("source")
    if where is None:
        raise InputError(
            "this run was started with a table made in Python",
            where=str(run.path),
            hint="hand the same table over: sortal.resume(run, source=table)",
        )
    data = known.recipe.data
    listed = [where] if isinstance(where, str) else where
    gone = [path for path in listed if not is_remote(path) and not Path(path).exists()]
    if gone:
        raise DataError(
            "the images of this run are not where they were",
            where=gone[0],
            hint="put them back, or from Python: sortal.resume(run, source=sortal.images(new_place))",
        )
    return images(where, label=data.label, group=data.group, level=data.level, boxes=data.boxes, margin=data.margin)


def _weights_digest(bundle: Path) -> str:
    return hashlib.sha256((open_bundle(bundle).path / "weights.safetensors").read_bytes()).hexdigest()
