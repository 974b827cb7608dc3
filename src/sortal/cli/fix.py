"""`sortal fix`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sortal.cli.output import finish, listener

if TYPE_CHECKING:
    from sortal.core.report import Report

SHOWN_CLASSES = 20


def fix(
    source: Path | None = typer.Argument(None, help="Class folders, a table, a manifest or list files."),
    plan: Path | None = typer.Option(None, "--plan", help="audit.json, or the plan as YAML."),
    do: bool = typer.Option(False, "--apply", help="Do it. Without this, only look."),
    undo: Path | None = typer.Option(None, "--undo", help="Take back: a data set (its newest repair) or a journal."),
    resume: bool = typer.Option(False, "--resume", help="Go on with a repair that was broken off."),
    status: bool = typer.Option(False, "--status", help="List the repairs of this data set."),
    skip_changed: bool = typer.Option(False, "--skip-changed", help="Leave out images that are gone or changed."),
    label: str = typer.Option("label", "--label", help="The column of classes in a table."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Repair a data set by a plan: quarantine, relabel, drop, merge, rename. Nothing is deleted; all can be undone.

    \b
    sortal fix photos/ --plan audit.json             look at what would be done
    sortal fix photos/ --plan audit.json --apply     do it
    sortal fix --undo photos/ --apply                take it back
    sortal fix photos/ --status
    """
    from sortal.core.errors import InputError

    asked = [
        name
        for name, given in (("--plan", plan), ("--undo", undo), ("--resume", resume), ("--status", status))
        if given
    ]
    if len(asked) != 1:
        hint = "one of --plan PLAN, --undo SOURCE, --resume, --status"
        raise InputError("say what to do", where="sortal fix", received=" ".join(asked) or "nothing", hint=hint)
    if undo is not None:
        return _undo(undo, do=do, as_json=as_json)
    if source is None:
        raise InputError("name the data set", where="sortal fix", hint=f"sortal fix photos/ {asked[0]}")
    if status:
        return _status(source, as_json=as_json)
    if plan is None:
        return _resume(source, as_json=as_json)
    return _plan(source, plan, do=do, label=label, skip_changed=skip_changed, as_json=as_json)


def _plan(source: Path, plan: Path, *, do: bool, label: str, skip_changed: bool, as_json: bool) -> None:
    from sortal.data.repair import fix as repairs
    from sortal.data.repair.plan import load_plan
    from sortal.data.repair.report import preview_report

    located = load_plan(plan)
    again = f"sortal fix {shlex.quote(str(source))} --plan {shlex.quote(str(plan))}"
    again += (f" --label {shlex.quote(label)}" if label != "label" else "") + (
        " --skip-changed" if skip_changed else ""
    )
    if not do:
        seen = repairs.preview(source, located, label=label, skip_changed=skip_changed)
        _show(preview_report(seen), as_json=as_json, results=[], following=[f"{again} --apply"] if seen.changes else [])
        if not as_json:
            print("Nothing was changed." if seen.changes else "Nothing to do: no entry of the plan is to be applied.")
        return
    seen, journal = repairs.repair(source, located, label=label, skip_changed=skip_changed, listener=listener())
    report = preview_report(seen, journal)
    where = [] if journal is None else [journal.folder]
    _show(report, as_json=as_json, results=where, following=_back(source) if journal else [])


def _undo(where: Path, *, do: bool, as_json: bool) -> None:
    from sortal.data.repair import fix as repairs
    from sortal.data.repair.report import undo_report

    journal, undone = repairs.take_back(where, do=do, listener=listener())
    report = undo_report(journal, undone, done=do)
    _show(report, as_json=as_json, results=[], following=[] if do else _back(where))
    if undone.kept:
        raise typer.Exit(1)


def _resume(source: Path, *, as_json: bool) -> None:
    from sortal.data.repair import fix as repairs
    from sortal.data.repair.report import status_report

    journal = repairs.resume(source, listener=listener())
    _show(status_report(source, [journal]), as_json=as_json, results=[journal.folder], following=_back(source))


def _status(source: Path, *, as_json: bool) -> None:
    from sortal.data.repair.journal import journals, root_of
    from sortal.data.repair.report import status_report

    _show(status_report(source, journals(root_of(source))), as_json=as_json, results=[], following=[])


def _back(source: Path) -> list[str]:
    return [f"sortal fix --undo {shlex.quote(str(source))} --apply"]


def _show(report: Report, *, as_json: bool, results: list[Path], following: list[str]) -> None:
    from sortal.cli.tables import draw
    from sortal.core.report import Table

    if not as_json:
        for name, table in report.tables.items():
            cut = name == "Classes" and len(table.rows) > SHOWN_CLASSES
            shown = (*table.rows[: SHOWN_CLASSES - 1], table.rows[-1]) if cut else table.rows
            draw(name, Table(columns=table.columns, rows=shown))
    finish(report, as_json=as_json, results=results, following=following)
