"""Report: the one envelope of everything that has an opinion (audit, evaluation, certificate, parity, gate ...).

The command line, the pages, continuous integration and the promotion gate read nothing else. Rendering as HTML lives
in `evaluate.pages`; JSON and Markdown are here because they need no plots.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sortal.core.canonical import parse, pretty
from sortal.core.errors import InputError

Cell = str | int | float | bool | None


class Metric(BaseModel):
    """A number with its interval. `low`/`high` are None where no interval exists; `n` is what it was computed from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @model_validator(mode="after")
    def _finite(self) -> Self:
        if any(x is not None and not math.isfinite(x) for x in (self.value, self.low, self.high)):
            raise ValueError("a metric must be finite; use None for undefined")
        return self


class Table(BaseModel):
    """Rows of plain cells under named columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("every row needs one cell a column")
        return self


class Finding(BaseModel):
    """Something a person should know: a stable code, how bad it is, the rows it is about, and what to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    severity: Literal["info", "warning", "error"]
    message: str
    rows: tuple[str, ...] = ()
    """Row names (path, or path::member, or path#frame); the first 1,000 where there are more."""
    hint: str | None = None


class Report(BaseModel):
    """An opinion with its evidence. `body` holds what is specific to `kind`, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=1, le=1)] = 1
    kind: str
    subject: str
    data_digest: str | None = None
    metrics: dict[str, Metric] = {}
    tables: dict[str, Table] = {}
    findings: tuple[Finding, ...] = ()
    paths: dict[str, str] = {}
    provenance: dict[str, Any] = {}
    body: dict[str, Any] = {}

    def to_json(self) -> str:
        """Indented JSON that `from_json` reads back to an equal report."""
        return pretty(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "report") -> Report:
        """Raises InputError that names `where` when the text is not a report of a known format."""
        try:
            return cls.model_validate(parse(text, where=where))
        except ValueError as error:
            raise InputError(f"not a Sortal report: {error}", where=where) from error

    def compare(self, other: Report) -> Table:
        """Metric by metric: here, there and the difference (other minus this), for metrics that both have."""
        rows = [
            (name, mine.value, theirs.value, theirs.value - mine.value)
            for name, mine in self.metrics.items()
            if (theirs := other.metrics.get(name)) and mine.value is not None and theirs.value is not None
        ]
        return Table(columns=("metric", "this", "other", "difference"), rows=tuple(rows))

    def to_markdown(self, *, max_rows: int = 40) -> str:
        """The report for a terminal, a pull request or a card; tables longer than `max_rows` say how many were cut."""
        parts = [f"# {self.kind}: {self.subject}"]
        if self.metrics:
            rows = tuple((name, *_metric_cells(metric)) for name, metric in self.metrics.items())
            parts.append(_markdown(Table(columns=("metric", "value", "interval", "n"), rows=rows), max_rows))
        if self.findings:
            lines = [f"- **{finding.severity}** `{finding.code}`: {finding.message}" for finding in self.findings]
            parts.append("## Findings\n\n" + "\n".join(lines))
        parts += [f"## {name}\n\n{_markdown(table, max_rows)}" for name, table in self.tables.items()]
        return "\n\n".join(parts) + "\n"


def _metric_cells(metric: Metric) -> tuple[str, str, str]:
    value = "undefined" if metric.value is None else f"{metric.value:.4g}"
    interval = "" if metric.low is None or metric.high is None else f"{metric.low:.4g} to {metric.high:.4g}"
    return value, interval, "" if metric.n is None else str(metric.n)


def _markdown(table: Table, max_rows: int) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows[:max_rows]]
    if len(table.rows) > max_rows:
        lines.append(f"\n… {len(table.rows) - max_rows} more rows")
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    text = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return text.replace("|", "\\|").replace("\n", " ")
