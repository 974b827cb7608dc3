"""What a page shows, as plain text cells: titles for people, shares as percentages, intervals folded into their values.

The template only places these texts; it decides nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.evaluate.pages.words import HELP, TITLES
from sortal.evaluate.summary import interval, percent

_SHARES = re.compile(
    r"(accuracy|recall|precision|f1|coverage|error|rate|share|share_here|prevalence|top_\d+|_summed|"
    r"back_off_(fine|coarse|person))(_at_prevalence)?(_low|_high)?$"
)
_NO_SHARES = re.compile(r"^mean_cost")
PAIRS = "confused_pairs"
"""The table whose rows may have thumbnails beside them."""

_FOLDED = ("confusion", "threshold_curve", "reliability", "reliability_before", "risk_coverage", "robustness")
_FOLDED_ABOVE = 12
_HIDDEN = {"summary", "headline", "clauses"}


def is_share(column: str) -> bool:
    """Whether the numbers of a column of that name, or a metric's, are shares, which people read as percentages."""
    return bool(_SHARES.search(column)) and not _NO_SHARES.search(column)


SEVERITIES = ("error", "warning", "info")
"""The order of findings on a page."""


@dataclass(frozen=True, kw_only=True)
class CellView:
    """One cell: its text, what it is sorted by, and its interval as text and as percent positions of a bar."""

    text: str
    key: str
    interval: str = ""
    bar: tuple[float, float, float] | None = None
    """Low, value, high in percent of the width."""
    number: bool = False


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table with titled columns. `folded` ones start closed."""

    name: str
    title: str
    help: str
    columns: tuple[str, ...]
    rows: list[list[CellView]]
    numeric: tuple[bool, ...]
    """Which columns hold numbers: aligned right, sorted as numbers."""
    images: list[list[str]] = field(default_factory=list)
    """Data URIs of thumbnails by row; empty where the table has none."""
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class MetricView:
    """A number of the headline."""

    title: str
    help: str
    cell: CellView
    n: str


@dataclass(frozen=True, kw_only=True)
class PageView:
    """Everything on the page, in reading order."""

    kind: str
    subject: str
    facts: list[str]
    positive: str
    """The class of the threshold curve, empty without one."""
    summary: list[str]
    headline: list[MetricView]
    metrics: list[MetricView]
    findings: list[Finding]
    tables: list[TableView]
    curve: list[tuple[str, str]]
    """Polyline points of the threshold curve by line; empty without one."""
    details: list[tuple[str, str]]


def page_view(report: Report, thumbnails: Mapping[tuple[str, str], Sequence[str]]) -> PageView:
    """Turn a report of any kind into what its page shows."""
    metrics = {name: _metric(name, metric) for name, metric in report.metrics.items()}
    wanted = report.body.get("headline")
    headline = [name for name in (wanted if isinstance(wanted, list) else list(metrics)[:6]) if name in metrics]
    return PageView(
        kind=report.kind,
        subject=report.subject,
        facts=_facts(report),
        positive=str(report.body.get("positive") or ""),
        summary=[str(sentence) for sentence in report.body.get("summary", [])],
        headline=[metrics[name] for name in headline],
        metrics=list(metrics.values()) if len(metrics) > len(headline) else [],
        findings=sorted(report.findings, key=lambda found: SEVERITIES.index(found.severity)),
        tables=[_table(name, table, thumbnails) for name, table in _ordered(report.tables)],
        curve=_curve(report.tables.get("threshold_curve")),
        details=_details(report),
    )


def title(name: str) -> str:
    """A name of a metric, table or column for people."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def cell_view(column: str, cell: Cell, low: Cell = None, high: Cell = None) -> CellView:
    """One cell for people; with a low and high end it also says its interval."""
    if cell is None:
        return CellView(text="–", key="", number=bool(_SHARES.search(column)))
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        text = {True: "yes", False: "no"}.get(cell, str(cell)) if isinstance(cell, bool) else str(cell)
        return CellView(text=text, key=text)
    known = isinstance(low, int | float) and isinstance(high, int | float)
    if not is_share(column):
        ends = f"{_number(low)} to {_number(high)}" if known else ""  # type: ignore[arg-type]
        return CellView(text=_number(cell), key=repr(cell), interval=ends, number=True)
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return CellView(text=percent(cell), key=repr(cell), number=True)
    ends = interval(Metric(value=None, low=low, high=high))
    bar = (100.0 * low, 100.0 * cell, 100.0 * high)
    return CellView(text=percent(cell), key=f"{cell:.6f}", interval=ends, bar=bar, number=True)


def _metric(name: str, metric: Metric) -> MetricView:
    cell = cell_view(name, metric.value, metric.low, metric.high)
    return MetricView(
        title=title(name), help=HELP.get(name, ""), cell=cell, n="" if metric.n is None else f"{metric.n:,}"
    )


def _number(value: float) -> str:
    if isinstance(value, int) or (value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:,.4g}"


def _ordered(tables: Mapping[str, Table]) -> list[tuple[str, Table]]:
    first = [name for name in ("confused_pairs", "per_class", "per_coarse_class", "averages") if name in tables]
    last = [name for name in ("threshold_curve", "confusion") if name in tables]
    middle = [name for name in tables if name not in {*first, *last}]
    return [(name, tables[name]) for name in (*first, *middle, *last)]


def _table(name: str, table: Table, thumbnails: Mapping[tuple[str, str], Sequence[str]]) -> TableView:
    places = {column: place for place, column in enumerate(table.columns)}
    folded_ends = {f"{column}{end}" for column in places for end in ("_low", "_high")}
    shown = [column for column in table.columns if name == "confusion" or column not in folded_ends]

    def at(row: tuple[Cell, ...], column: str) -> Cell:
        return row[places[column]] if column in places else None

    def cell(row: tuple[Cell, ...], column: str) -> CellView:
        if name == "confusion":
            return CellView(
                text=str(at(row, column)), key=str(at(row, column)), number=isinstance(at(row, column), int)
            )
        return cell_view(column, at(row, column), at(row, f"{column}_low"), at(row, f"{column}_high"))

    images = [list(thumbnails.get((str(row[0]), str(row[1])), ())) for row in table.rows] if name == PAIRS else []
    rows = [[cell(row, column) for column in shown] for row in table.rows]
    return TableView(
        name=name,
        title=title(name),
        help=HELP.get(name, ""),
        columns=tuple(shown if name == "confusion" else map(title, shown)),
        rows=rows,
        numeric=tuple(any(row[place].number for row in rows) for place in range(len(shown))),
        images=images if any(images) else [],
        folded=name in _FOLDED or (name not in TITLES and len(table.rows) > _FOLDED_ABOVE),
    )


def _curve(table: Table | None) -> list[tuple[str, str]]:
    """Polylines in a box of 100 x 100, threshold to the right, rate upwards."""
    if table is None:
        return []
    lines = []
    for name in ("miss_rate", "false_detection_rate"):
        place = table.columns.index(name)
        points = [(row[0], row[place]) for row in table.rows]
        known = [(float(x), float(y)) for x, y in points if isinstance(x, int | float) and isinstance(y, int | float)]
        if known:
            lines.append((title(name), " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, y in known)))
    return lines


def _facts(report: Report) -> list[str]:
    counts = report.body.get("counts")
    facts = []
    if isinstance(counts, dict) and {"images", "classes"} <= set(counts):
        facts.append(f"{counts['images']:,} images, {counts['classes']:,} classes")
    if report.body.get("split"):
        facts.append(f"split: {report.body['split']}")
    if report.data_digest:
        facts.append(f"data {report.data_digest[:12]}")
    return facts


def _details(report: Report) -> list[tuple[str, str]]:
    """Provenance, paths and the rest of the body as name and text."""
    body = {name: value for name, value in report.body.items() if name not in _HIDDEN}
    digest = {"data_digest": report.data_digest} if report.data_digest else {}
    told: dict[str, Any] = {**digest, **report.provenance, **report.paths, **body}
    return [(title(name), _plain(value)) for name, value in told.items() if value not in (None, "", [], {})]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and all(not isinstance(item, dict | list) for item in value.values()):
        return ", ".join(f"{name.replace('_', ' ')}: {item}" for name, item in value.items())
    return json.dumps(value, ensure_ascii=False)
