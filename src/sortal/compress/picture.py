"""The picture of a compression: accuracy against time, the area of a point its size."""

from __future__ import annotations

from pathlib import Path

from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, new_figure, png

_AREA = 60.0
_CLOSE_MS, _CLOSE_POINTS = 0.05, 0.3
"""Points nearer than this share of the time and this much accuracy have their numbers above each other."""


def draw_candidates(report: Report, path: Path) -> Path:
    """Accuracy with its interval against CPU time of one image. Shipped ones are green, refused ones red; numbers are
    rows of the table. Raises MachineError when the disk refuses."""
    table = report.tables["candidates"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    figure = new_figure(9.5, max(4.6, 1.6 + 0.34 * len(rows)))
    axes, legend = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    drawn = list[tuple[float, float]]()
    for number, row in enumerate(rows, start=1):
        place, high = float(str(row["cpu_ms"])), 100 * float(str(row["accuracy"]))
        ends = [[high - 100 * float(str(row["accuracy_low"]))], [100 * float(str(row["accuracy_high"])) - high]]
        color = _color(str(row["verdict"]))
        axes.errorbar([place], [high], yerr=ends, fmt="none", color=color, capsize=3, linewidth=0.8, alpha=0.5)
        axes.scatter([place], [high], s=_AREA * float(str(row["size_mb"])) ** 0.7, color=color, alpha=0.45)
        close = sum(abs(place - x) < _CLOSE_MS * place and abs(high - y) < _CLOSE_POINTS for x, y in drawn)
        drawn.append((place, high))
        offset = {"textcoords": "offset points", "xytext": (9, 7 + 11 * close)}
        axes.annotate(f"{number}", (place, high), fontsize=8, color=color, **offset)
        text = f"{number}  {row['candidate']} · {row['method']} · {row['engine']} · {float(str(row['size_mb'])):.2f} MB"
        legend.text(0.0, len(rows) - number, text, fontsize=8.5, color=color, va="center", parse_math=False)
    legend.set_xlim(0, 1)
    legend.set_ylim(-0.8, len(rows) - 0.2)
    legend.axis("off")
    axes.margins(x=0.15, y=0.15)
    axes.set_xlim(left=0)
    dress(
        axes,
        "Accuracy, time and size (area)",
        "CPU time of one image, one thread, ms",
        "accuracy on validation images, %",
    )
    publish_file(path, png(figure, dpi=130))
    return path


def _color(verdict: str) -> str:
    if verdict in ("the original", "fits"):
        return NEUTRAL
    return RIGHT if verdict == "shipped" else WRONG
