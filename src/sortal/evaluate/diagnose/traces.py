"""What a training run left behind, read back: history, recipe, plan, class counts, final numbers. No torch."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sortal.core.canonical import parse
from sortal.core.errors import InputError
from sortal.core.recipe import Recipe, load_recipe
from sortal.core.report import Metric, Report
from sortal.core.run import RunFolder

Row = Mapping[str, Any]

_ENDED = " ended early: "


@dataclass(frozen=True, kw_only=True)
class Traces:
    """What a run left behind. `train_counts` are training images by class; `limit_ms` is that of the contract."""

    history: Sequence[Row]
    recipe: Recipe
    plan: Row
    train_counts: Mapping[str, int]
    metrics: Mapping[str, Metric]
    source: str | None
    stopped: str | None
    finished: bool = True
    ended: str | None = None
    """Why the training broke off, as its log has it."""
    latency_ms: float | None = None
    limit_ms: float | None = None


def read_traces(run: RunFolder, *, latency_ms: float | None = None, limit_ms: float | None = None) -> Traces:
    """Read a run's files. Raises InputError where it is no run or its training never began."""
    if not run.recipe_path.is_file():
        raise InputError("this is no training run: it has no recipe.yaml", where=str(run.path))
    history = run.records()
    ended = _ended(run)
    if not history:
        hint = "look at the end of train.log; go on with: sortal train --resume"
        what = "no epoch was finished, so there is nothing to judge"
        raise InputError(what, where=str(run.path), received=ended, hint=hint)
    told = Report.from_json(run.report_path.read_bytes()) if run.report_path.is_file() else None
    state = parse(run.state_path.read_bytes(), where=str(run.state_path)) if run.state_path.is_file() else {}
    source = state.get("origin", {}).get("source") if isinstance(state, dict) else None
    return Traces(
        history=history,
        recipe=load_recipe(run.recipe_path),
        plan=parse(run.plan_path.read_bytes(), where=str(run.plan_path)) if run.plan_path.is_file() else {},
        train_counts=_train_counts(run),
        metrics={} if told is None else told.metrics,
        source=source if isinstance(source, str) else None,
        stopped=None if told is None else told.provenance.get("stopped"),
        finished=run.finished,
        ended=ended,
        latency_ms=latency_ms,
        limit_ms=limit_ms,
    )


def _ended(run: RunFolder) -> str | None:
    """The last reason that the log gives for an end before the time, in one line."""
    if not run.log_path.is_file():
        return None
    lines = run.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [line.partition(_ENDED)[2] for line in lines if _ENDED in line]
    return found[-1] if found else None


def _train_counts(run: RunFolder) -> dict[str, int]:
    if not run.split_path.is_file():
        return {}
    counts: dict[str, int] = {}
    with run.split_path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["label"]:
                counts[row["label"]] = counts.get(row["label"], 0) + (row["split"] == "train")
    return counts
