"""The picture of a compression: a row for every candidate with its accuracy, its time and its size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sortal.core.publish import publish_file
from sortal.core.report import Cell, Report
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Cell]

_ROW_IN = 0.32
_HEAD_IN = 1.4


def draw_candidates(report: Report, path: Path) -> Path:
    """Accuracy with its interval, CPU time of one image on one thread and size, in the order of the table. What was
    shipped is green, what was refused red. Raises MachineError when the disk refuses."""
    table = report.tables["candidates"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    figure = new_figure(11.0, _HEAD_IN + _ROW_IN * len(rows))
    first, second, third = figure.subplots(1, 3, sharey=True, gridspec_kw={"width_ratios": (3, 2, 2)})
    _accuracies(first, rows)
    _bars(second, rows, "cpu_ms", "time", "CPU ms of one image")
    _bars(third, rows, "size_mb", "size", "MB")
    names = [_name(row) for row in rows]
    first.set_yticks(range(len(rows)), names, fontsize=8.5, parse_math=False)
    for label, row in zip(first.get_yticklabels(), rows, strict=True):
        label.set_color(_color(row))
    first.set_ylim(len(rows) - 0.4, -0.6)
    publish_file(path, png(figure, dpi=130))
    return path


def _accuracies(axes: Axes, rows: list[Row]) -> None:
    for place, row in enumerate(rows):
        value, low, high = (100 * _number(row[name]) for name in ("accuracy", "accuracy_low", "accuracy_high"))
        axes.plot([low, high], [place, place], color=_color(row), linewidth=1.0, alpha=0.6)
        axes.plot([value], [place], marker="o", color=_color(row), markersize=5)
    axes.axvline(100 * _number(rows[0]["accuracy"]), color=NEUTRAL, linewidth=0.6, linestyle=":")
    dress(axes, "accuracy", "on validation images, %")


def _bars(axes: Axes, rows: list[Row], column: str, title: str, unit: str) -> None:
    """A bar a row, with its number at its end."""
    values = [_number(row[column]) for row in rows]
    axes.barh(range(len(rows)), values, height=0.6, color=[_color(row) for row in rows], alpha=0.55)
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:.3g}", (value, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_xlim(0, 1.15 * max(values, default=1.0))
    axes.tick_params(labelleft=False)
    dress(axes, title, unit)


def _name(row: Row) -> str:
    shipped = "shipped: " if row["verdict"] == "shipped" else ""
    return f"{shipped}{row['candidate']} · {row['method']} · {row['engine']}"


def _number(cell: Cell) -> float:
    return float(str(cell))


def _color(row: Row) -> str:
    if row["verdict"] in ("the original", "fits"):
        return NEUTRAL
    return RIGHT if row["verdict"] == "shipped" else WRONG
