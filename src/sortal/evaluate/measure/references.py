"""What was measured beside what others state: a published figure, a human baseline, a demand.

A figure stands beside the metric of its name, and the interval says whether they differ: above, below, or not
distinguishable. A figure is not a promise; promises are the contract's.
"""

from __future__ import annotations

from collections.abc import Mapping

from sortal.core.report import Cell, Finding, Metric, Report, Table

NAME = "references"
PUBLISHED = "reference"
_ABSENT = "reference_without_metric"
_LOWER_IS_BETTER = ("error", "rate", "mae", "cost", "person", "_ms", "seconds_per_image")

Stated = Mapping[str, float | Mapping[str, float]]


def references_table(metrics: Mapping[str, Metric], stated: Stated) -> Table:
    """One row a figure: metric, whose it is, the figure, what was measured with its interval, and the verdict."""
    rows: list[tuple[Cell, ...]] = []
    for name, given in stated.items():
        for whose, figure in given.items() if isinstance(given, Mapping) else [(PUBLISHED, given)]:
            metric = metrics.get(name, Metric(value=None))
            rows.append(
                (
                    name,
                    whose,
                    float(figure),
                    metric.value,
                    metric.low,
                    metric.high,
                    verdict(name, metric, float(figure)),
                )
            )
    columns = ("metric", "whose", "reference", "measured", "measured_low", "measured_high", "verdict")
    return Table(columns=columns, rows=tuple(rows))


def with_references(report: Report, stated: Stated) -> Report:
    """The report with its figures held against all that it has measured by now."""
    if not stated:
        return report
    kept = [found for found in report.findings if found.code != _ABSENT]
    absent = references_findings(report.metrics, stated, ok=report.body.get("ok") is not None)
    tables = {**report.tables, NAME: references_table(report.metrics, stated)}
    return report.model_copy(update={"tables": tables, "findings": (*kept, *absent)})


def verdict(name: str, metric: Metric, figure: float) -> str:
    """`above`, `below` with better or worse, or `not distinguishable`, where the figure lies within the interval."""
    if metric.value is None or metric.low is None or metric.high is None:
        return "not measured"
    if metric.low <= figure <= metric.high:
        return "not distinguishable"
    above = metric.low > figure
    lower = name.endswith(_LOWER_IS_BETTER) or name.startswith(("mean_cost", "grade_mae", "miss_rate"))
    return f"{'above' if above else 'below'}, {'worse' if above == lower else 'better'}"


def references_findings(metrics: Mapping[str, Metric], stated: Stated, *, ok: bool) -> tuple[Finding, ...]:
    """What stands in the recipe beside no metric of this evaluation."""
    absent = [name for name in stated if metrics.get(name, Metric(value=None)).value is None]
    if not absent:
        return ()
    message = f"There is a reference for {', '.join(absent)}, but nothing of that name was measured here."
    hint = "metrics that can have one are those of report.json"
    if "false_detection_rate" in absent and not ok:
        hint = "a false-detection rate needs a class of good parts: name it as evaluate.ok"
    return (Finding(code=_ABSENT, severity="warning", message=message, rows=tuple(absent), hint=hint),)
