"""The picture of a benchmark: accuracy (images a second without labels) against time; the area of a point its size."""

from __future__ import annotations

from pathlib import Path

from sortal.core.publish import publish_file
from sortal.core.report import Cell, Report
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, new_figure, png

_AREA = 60.0


def draw_benchmark(report: Report, path: Path) -> Path:
    """Rows of the table `artifacts` that ran: numbers are their places in it. Green decides all as the original does,
    red some otherwise, grey is not compared. Raises MachineError when the disk refuses."""
    table = report.tables["artifacts"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    ran = [(number, row) for number, row in enumerate(rows, start=1) if row["ms"] is not None]
    judged = any(row["accuracy"] is not None for _, row in ran)
    figure = new_figure(10.0, max(4.6, 1.6 + 0.34 * len(rows)))
    axes, legend = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    for number, row in ran:
        if row["accuracy" if judged else "images_per_s"] is None:
            continue
        across, color = _number(row["ms"]), _color(row)
        up = 100 * _number(row["accuracy"]) if judged else _number(row["images_per_s"])
        if judged:
            ends = [[up - 100 * _number(row["accuracy_low"])], [100 * _number(row["accuracy_high"]) - up]]
            axes.errorbar([across], [up], yerr=ends, fmt="none", color=color, capsize=3, linewidth=0.8, alpha=0.4)
        axes.scatter([across], [up], s=_AREA * max(_number(row["size_mb"]), 0.05) ** 0.7, color=color, alpha=0.4)
        offset = (8, 6 + 10 * sum(abs(_number(other["ms"]) - across) < 0.06 * across for n, other in ran if n < number))
        axes.annotate(f"{number}", (across, up), fontsize=8, color=color, textcoords="offset points", xytext=offset)
    for number, row in enumerate(rows, start=1):
        size = "" if row["size_mb"] is None else f" · {_number(row['size_mb']):.2f} MB"
        shown = f" · {_number(row['ms']):.3g} ms" if row["ms"] is not None else f" · {row['status']}"
        text = f"{number}  {row['artifact']} · {row['engine']}{size}{shown}"
        legend.text(0.0, len(rows) - number, text, fontsize=8, color=_color(row), va="center", parse_math=False)
    legend.set_xlim(0, 1)
    legend.set_ylim(-0.8, len(rows) - 0.2)
    legend.axis("off")
    axes.margins(x=0.15, y=0.15)
    axes.set_xlim(left=0)
    what = "accuracy, %" if judged else "images a second, batch 32"
    dress(axes, "Accuracy, time and size (area)" if judged else "Speed and size (area)", "time of one image, ms", what)
    publish_file(path, png(figure, dpi=130))
    return path


def _color(row: dict[str, Cell]) -> str:
    if row["flips"] is None:
        return NEUTRAL
    return RIGHT if row["flips"] == 0 else WRONG


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0
