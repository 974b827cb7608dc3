"""The files of an audit: report.html, audit.json, findings.csv and plan.yaml, all there or none of them.

They go into a folder of their own, which appears as a whole. Nothing in them depends on the clock: the same images,
checks and place give the same bytes of audit.json, so two audits can be compared.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sortal.audit_actions import PLAN
from sortal.audit_pictures import evidence, map_of
from sortal.audit_sight import Sight
from sortal.core.errors import InputError
from sortal.core.manifest import MANIFEST
from sortal.core.progress import Listener
from sortal.core.publish import publish_file, publish_folder
from sortal.core.report import Report
from sortal.core.run import folder_name
from sortal.data.checks.material import Material
from sortal.data.repair.plan import Plan
from sortal.evaluate.pages.audit import render_audit
from sortal.evaluate.pages.audit_view import audit_view, pick

AUDITS = Path("audits")
NAMES = {"report": "report.html", "json": "audit.json", "findings": "findings.csv", "plan": "plan.yaml"}


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What an audit has found, before it is written."""

    report: Report
    issues: pl.DataFrame
    plan: Plan
    material: Material
    sight: Sight
    thumbnails: bool


def check_out(out: Path | None) -> None:
    """Raises InputError where `out` is no place for an audit: before anything is computed."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder", where=str(out), hint="name a folder for the audit")
    if any((out / name).exists() for name in (MANIFEST, "bundle", "recipe.yaml")):
        hint = "name another folder, or leave --out away for a numbered one"
        raise InputError("a run or bundle is here and is never overwritten", where=str(out), hint=hint)


def write_audit(pieces: Pieces, out: Path | None, *, subject: str, listener: Listener) -> Report:
    """Write the four files into `out`, or into the next free folder `audits/<subject>-N`; the report with its paths.

    Raises MachineError when the machine refuses.
    """
    table, picked = pieces.material.table, pick(pieces.issues)
    thumbnails = evidence(table, picked, listener) if pieces.thumbnails else {}
    plane = map_of(pieces.material, pieces.issues, pieces.sight, listener, pictures=pieces.thumbnails)

    def files(folder: Path) -> tuple[Report, dict[str, bytes]]:
        report = _placed(pieces, folder)
        view = audit_view(report, pieces.issues, picked, table, thumbnails, plane)
        return report, {
            NAMES["report"]: render_audit(report, view, pictures=pieces.thumbnails).encode("utf-8", "replace"),
            NAMES["findings"]: findings_csv(pieces.issues),
            NAMES["plan"]: pieces.plan.to_yaml().encode("utf-8", "backslashreplace"),
            NAMES["json"]: report.to_json().encode("utf-8", "replace"),
        }

    listener.progress("writing the page", 0, 1)
    written = _into_numbered(files, subject) if out is None else _into(out, files)
    listener.progress("writing the page", 1, 1)
    return written


def findings_csv(issues: pl.DataFrame) -> bytes:
    """All issues, one row each."""
    buffer = io.BytesIO()
    issues.write_csv(buffer, float_precision=6)
    return buffer.getvalue()


Files = Callable[[Path], tuple[Report, Mapping[str, bytes]]]


def _placed(pieces: Pieces, folder: Path) -> Report:
    """The report with the paths of its files, the plan, and the commands as they can be typed."""
    paths = {key: str(folder / name) for key, name in NAMES.items()}
    report = pieces.report
    actions = [_located(action, paths["json"]) for action in report.body["actions"]]
    body = {**report.body, "actions": actions, "plan": pieces.plan.content()}
    return report.model_copy(update={"paths": paths, "body": body})


def _located(action: Mapping[str, Any], plan: str) -> dict[str, Any]:
    return {**action, "command": action["command"].replace(PLAN, shlex.quote(plan))}


def _into(out: Path, files: Files) -> Report:
    """A new or empty folder appears as a whole; in one that holds other things only our own files are replaced."""
    report, data = files(out)
    if out.is_dir() and any(out.iterdir()):
        for name, content in data.items():
            publish_file(out / name, content)
        return report
    publish_folder(out, lambda folder: _write(folder, data), replace=out.is_dir())
    return report


def _into_numbered(files: Files, subject: str) -> Report:
    name, number = folder_name(subject), 1
    while True:
        while (AUDITS / f"{name}-{number}").exists():
            number += 1
        target = AUDITS / f"{name}-{number}"
        report, data = files(target)
        try:
            publish_folder(target, lambda folder, data=data: _write(folder, data))  # type: ignore[misc]
        except InputError:  # another audit was quicker
            continue
        return report


def _write(folder: Path, data: Mapping[str, bytes]) -> None:
    for name, content in data.items():
        (folder / name).write_bytes(content)
