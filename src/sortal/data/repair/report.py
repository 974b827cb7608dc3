"""What a repair would do, did or took back, as reports: counts, first rows, and the classes that training would see."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.data.repair.fix import Preview
from sortal.data.repair.journal import Journal, commands
from sortal.data.repair.resolve import named_classes
from sortal.data.repair.undo import Undone
from sortal.data.table import finding

SHOWN = 5
KINDS = ("quarantine", "drop", "relabel", "merge", "rename")


def preview_report(seen: Preview, journal: Journal | None = None) -> Report:
    """A plan held against a data set; with `journal`, after it was carried out."""
    actions = [action for _, action in seen.located.applied()]
    waiting = len(seen.located.plan.actions) - len(actions)
    counts = {kind: sum(action.do == kind for action in actions) for kind in KINDS}
    left_out = len(seen.changes.skipped)
    metrics = {kind: Metric(value=number) for kind, number in counts.items() if number}
    metrics |= {"not applied": Metric(value=waiting)} if waiting else {}
    metrics |= {"left out": Metric(value=left_out)} if left_out else {}
    found = [finding("repair_note", "info", note) for note in seen.notes]
    if left_out:
        names = [problem.image for problem in seen.changes.skipped]
        found.append(finding("changed_since", "warning", f"{left_out} images are gone or changed and left out", names))
    return Report(
        kind="repair" if journal else "repair-preview",
        subject=str(seen.source),
        metrics=metrics,
        tables={"What is done": _first_rows(seen), "Classes": _classes(seen)},
        findings=tuple(found),
        paths={"journal": str(journal.path)} if journal else {},
        provenance={"plan": seen.located.where, "listing_digest": seen.table.listing_digest},
        body={"steps": len(seen.script.steps), "state": journal.state if journal else "nothing was changed"},
    )


def undo_report(journal: Journal, undone: Undone, *, done: bool) -> Report:
    """What was restored, or would be, and what stays as it is."""
    table = Table(columns=("place", "why it stays"), rows=undone.kept)
    found = []
    if undone.kept:
        message = f"{len(undone.kept)} things changed since the repair and stay as they are"
        found.append(finding("not_undone", "warning", message, [place for place, _ in undone.kept]))
    return Report(
        kind="repair-undo" if done else "repair-undo-preview",
        subject=str(journal.root),
        metrics={"restored" if done else "to restore": Metric(value=undone.restored)},
        tables={"Not restored": table} if undone.kept else {},
        findings=tuple(found),
        paths={"journal": str(journal.path)},
        body={"repair": journal.id},
    )


def status_report(source: Path, found: Iterable[Journal]) -> Report:
    """All repairs of a data set, the oldest first."""
    rows: list[tuple[Cell, ...]] = []
    notes: list[Finding] = []
    for journal in found:
        moved = sum(step.do in ("move", "rename_folder", "write") for step in journal.steps)
        stopped = journal.last("stopped")
        rows.append((journal.id, str(journal.head["time"]), journal.state, moved, str(stopped.get("reason", ""))))
        if journal.state in ("broken off", "undo broken off"):
            message = f"the repair {journal.id} is {journal.state}"
            hint = ", or ".join(commands(journal)[journal.state == "undo broken off" :])
            notes.append(finding("unfinished_repair", "warning", message, hint=hint))
    table = Table(columns=("repair", "time", "state", "changes", "stopped by"), rows=tuple(rows))
    return Report(
        kind="repair-status",
        subject=str(source),
        metrics={"repairs": Metric(value=len(rows))},
        tables={"Repairs": table} if rows else {},
        findings=tuple(notes),
    )


def _first_rows(seen: Preview) -> Table:
    """Of each kind the first entries."""
    rows: list[tuple[Cell, ...]] = []
    skipped = {problem.entry for problem in seen.changes.skipped}
    applied = [action for number, action in seen.located.applied() if number not in skipped]
    for kind in KINDS:
        those = [action for action in applied if action.do == kind]
        for action in those[:SHOWN]:
            shown = action.model_dump(by_alias=True)
            what = shown.get("image") or ", ".join(shown.get("classes", ())) or shown.get("from", "")
            change = (
                f"{shown['from']} -> {shown['to']}" if "from" in shown else f"-> {shown['to']}" if "to" in shown else ""
            )
            rows.append((kind, what, change, action.why or action.code, action.confidence))
        if len(those) > SHOWN:
            rows.append((kind, f"… {len(those) - SHOWN} more", "", "", None))
    return Table(columns=("do", "what", "class", "why", "confidence"), rows=tuple(rows))


def _classes(seen: Preview) -> Table:
    """Images by class now and then, the classes that change first."""
    frame = seen.changes.applied(named_classes(seen.table)).with_columns(pl.col("class", "after").fill_null("(none)"))
    now = frame.group_by("class").len("now")
    then = frame.filter(pl.col("in")).group_by("after").len("then")
    both = now.join(then, left_on="class", right_on="after", how="full", coalesce=True).fill_null(0)
    both = both.with_columns(change=pl.col("then").cast(pl.Int64) - pl.col("now").cast(pl.Int64))
    both = both.sort(pl.col("change").abs(), "class", descending=[True, False])
    total = (f"all {frame['class'].n_unique()} classes", frame.height, int(frame["in"].sum()))
    rows = [tuple(row) for row in both.iter_rows()]
    return Table(columns=("class", "now", "then", "change"), rows=(*rows, (*total, total[2] - total[1])))
