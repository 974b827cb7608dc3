"""The page of an audit: the frame of every page, with the evidence in it. Still one file that fetches nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sortal.core.report import Report, Table
from sortal.evaluate.pages.audit_view import OPEN, AuditView
from sortal.evaluate.pages.page import fill, inside_script, own
from sortal.evaluate.pages.view import page_view

TABLE_ROWS = 1_000
NAMED_ROWS = 60
_OWN_PLACE = ("classes", "label_errors", "duplicates", "bursts", "outliers", "issues")
"""Tables whose content is shown as pictures or bars, or counted beside them."""
_TITLES = {
    "mixed_classes": "Classes that are mixed up",
    "shortcuts": "What gives the class away without looking",
    "groups": "Proposed groups",
    "drift": "Differences between splits and sources",
    "storage": "How the images are stored",
    "leaks": "What leaks do to a result",
}
_KEPT = ("headline", "counts", "summary", "limits")


def render_audit(report: Report, view: AuditView, *, pictures: bool) -> str:
    """The page; without `pictures` images are named and not shown."""
    shown = page_view(_shortened(report), {})
    ordered = [
        replace(table, title=_TITLES.get(table.name, table.title))
        for table in shown.tables
        if table.name not in _OWN_PLACE
    ]
    data = {"issues": view.issues, "map": None if view.map is None else _map_data(view)}
    return fill(
        "audit.html.jinja",
        view=replace(shown, tables=ordered, metrics=[]),
        figures={},
        anchors=view.anchors,
        audit=view,
        open=OPEN,
        pictures=pictures,
        data=inside_script(data),
        audit_style=own("audit.css"),
        audit_script=own("audit.js"),
    )


def _shortened(report: Report) -> Report:
    """What fits on a page; the whole is in audit.json."""
    body = {name: value for name, value in report.body.items() if name in _KEPT}
    tables = {
        name: Table(columns=tuple(map(_column, one.columns)), rows=one.rows[:TABLE_ROWS])
        for name, one in report.tables.items()
    }
    findings = tuple(one.model_copy(update={"rows": one.rows[:NAMED_ROWS]}) for one in report.findings)
    return report.model_copy(update={"body": body, "tables": tables, "findings": findings})


def _column(name: str) -> str:
    """Other pages call a share that of the true class."""
    return "its share" if name == "share" else name


def _map_data(view: AuditView) -> dict[str, Any]:
    return {} if view.map is None else {**view.map.data, "sheets": view.map.sheets}
