"""The picture of a frontier: accuracy over time, with the file's size as area, and accuracy over size.

What is worth its price is joined by a line; the budget, and the limits of the contract, are lines too. Numbers are rows
of the table and of the list below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sortal.compress.frontier.report import Frontier
from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 130
_AREA, _DOT = 70.0, 40.0
"""Area of a point, in square points: of a file of 1 MB, and where area means nothing."""
_COLUMNS = 2
_WITH_INTERVALS = ("taken", "the original")
"""Those of all would hide the points."""
_PLACES = ((9, 6), (9, -15), (-20, 6), (-20, -15), (-5, 14), (-5, -24), (20, -4), (-32, -4), (24, 14), (-36, 14))
"""Where the number of a point may stand, in pixels from it, the first free one."""
_BOX = (17, 13)
"""About the size of a number in pixels."""

Row = dict[str, object]


def draw_frontier(found: Frontier, report: Report, path: Path) -> Path:
    """Draw it. Raises MachineError when the disk refuses."""
    rows = _drawn(report)
    lines = math.ceil(len(rows) / _COLUMNS)
    figure = new_figure(11, 5.2 + 0.26 * lines)
    grid = figure.add_gridspec(2, 2, height_ratios=(5.2, 0.26 * lines))
    left, right, below = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, :])
    contract = found.budget.contract
    waited = bool(rows) and all(row["p99_ms"] is not None for row in rows)
    latency = None if contract is None else contract.max_latency_ms
    size = None if contract is None else contract.max_size_mb
    place = "p99_ms" if waited else "cpu_ms"
    words = "from bytes to decision, 99th percentile, ms" if waited else "CPU time of one image, network alone, ms"
    _scatter(left, rows, place, [_area(row) for row in rows])
    _limits(left, rows, place, found, latency if waited else None)
    dress(left, "Accuracy over time (area: size)", words, "accuracy on validation images, %")
    _scatter(right, rows, "size_mb", [_DOT] * len(rows))
    _limits(right, rows, "size_mb", found, size)
    dress(right, "Accuracy over size", "size of the file, MB")
    _listed(below, rows, lines)
    figure.set_dpi(_DPI)
    figure.draw_without_rendering()
    _number(left, rows, place, [math.sqrt(_area(row)) / 2 for row in rows])
    _number(right, rows, "size_mb", [math.sqrt(_DOT) / 2] * len(rows))
    publish_file(path, png(figure, dpi=_DPI))
    return path


def _drawn(report: Report) -> list[Row]:
    table = report.tables["candidates"]
    rows: list[Row] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return [row | {"number": number} for number, row in enumerate(rows, start=1) if row["accuracy"] is not None]


def _scatter(axes: Axes, rows: Sequence[Row], column: str, areas: Sequence[float]) -> None:
    x = [float(str(row[column])) for row in rows]
    y = [100 * float(str(row["accuracy"])) for row in rows]
    colors = [_color(row) for row in rows]
    for one, row, color in zip(x, rows, colors, strict=True):
        if row["verdict"] not in _WITH_INTERVALS:
            continue
        ends = [100 * float(str(row[f"accuracy_{end}"])) for end in ("low", "high")]
        axes.plot([one, one], ends, color=color, alpha=0.4, linewidth=0.8, zorder=1)
    axes.scatter(x, y, s=areas, color=colors, alpha=0.45, zorder=2)
    worth = sorted((a, b) for a, b, row in zip(x, y, rows, strict=True) if row["worth_it"] == "yes")
    if len(worth) > 1:
        axes.plot(*zip(*worth, strict=True), color=NEUTRAL, linewidth=0.8, alpha=0.5, zorder=1)


def spans(rows: Sequence[Row], column: str, least: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """From where to where the axes go, across and up, in units of the column and percent: all that is drawn is inside,
    and the budget's line at `least` where it is an accuracy at all."""
    right = 1.15 * max((float(str(row[column])) for row in rows), default=1.0)
    drawn = {True: ("accuracy_low", "accuracy", "accuracy_high"), False: ("accuracy",)}
    ends = [100 * float(str(row[name])) for row in rows for name in drawn[row["verdict"] in _WITH_INTERVALS]]
    low, high = min([*ends, *([least] if least > 0 else [])], default=0.0), max(ends, default=100.0)
    pad = max(0.12 * (high - low), 0.5)
    return (0.0, right), (max(low - pad, -2.0), min(high + pad, 104.0))


def _limits(axes: Axes, rows: Sequence[Row], column: str, found: Frontier, most: float | None) -> None:
    own = 100 * (found.measured[0].price.accuracy.value or 0.0)
    least = own - found.budget.max_drop
    across, up = spans(rows, column, least)
    axes.set_xlim(*across)
    axes.set_ylim(*up)
    if least > 0:
        _budget(axes, least, found.budget.max_drop)
    if most is not None:
        axes.axvline(most, color=WRONG, linewidth=0.9, linestyle=":", zorder=0)
        axes.annotate(
            f"contract: {most:g}", (most, 0.0), xycoords=("data", "axes fraction"), fontsize=8, color=WRONG, ha="left",
            va="bottom", xytext=(3, 2), textcoords="offset points",
        )  # fmt: skip
        axes.set_xlim(right=max(axes.get_xlim()[1], 1.1 * most))


def _budget(axes: Axes, least: float, drop: float) -> None:
    axes.axhline(least, color=WRONG, linewidth=0.9, linestyle="--", zorder=0)
    axes.annotate(
        f"budget: {drop:g} points", (1.0, least), xycoords=("axes fraction", "data"), fontsize=8,
        color=WRONG, ha="right", va="top", xytext=(-2, -2), textcoords="offset points",
    )  # fmt: skip


def _number(axes: Axes, rows: Sequence[Row], column: str, radii: Sequence[float]) -> None:
    """Each point's number at the first place where it covers no other number and no other point. `radii` in points."""
    points = [axes.transData.transform((float(str(row[column])), 100 * float(str(row["accuracy"])))) for row in rows]
    taken = list[tuple[float, float]]()
    for row, (x, y), radius in zip(rows, points, radii, strict=True):
        away = 0.6 * radius * _DPI / 72
        places = [
            (across + math.copysign(away, across + 6), up + math.copysign(away, up + 5)) for across, up in _PLACES
        ]
        others = [(a - _BOX[0] / 2, b - _BOX[1] / 2) for a, b in points if (a, b) != (x, y)]
        free = [one for one in places if _clear((x + one[0], y + one[1]), [*taken, *others])]
        across, up = (free or [one for one in places if _clear((x + one[0], y + one[1]), taken)] or places)[0]
        taken.append((x + across, y + up))
        offset = (across * 72 / _DPI, up * 72 / _DPI)
        axes.annotate(
            str(row["number"]), (float(str(row[column])), 100 * float(str(row["accuracy"]))), xytext=offset,
            textcoords="offset points", fontsize=8, color=_color(row),
        )  # fmt: skip


def _clear(corner: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    return all(abs(corner[0] - a) >= _BOX[0] or abs(corner[1] - b) >= _BOX[1] for a, b in taken)


def _listed(axes: Axes, rows: Sequence[Row], lines: int) -> None:
    for place, row in enumerate(rows):
        column, line = divmod(place, lines)
        size = float(str(row["size_mb"]))
        mark = (
            " (taken)" if row["verdict"] == "taken" else " (the original)" if row["verdict"] == "the original" else ""
        )
        text = f"{row['number']}  {row['candidate']} · {row['engine']} · {size:.2f} MB{mark}"
        axes.text(column / _COLUMNS, lines - line, text, fontsize=8.5, color=_color(row), va="center", parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0.4, lines + 0.6)
    axes.axis("off")


def _area(row: Row) -> float:
    return float(_AREA * float(str(row["size_mb"])) ** 0.8)


def _color(row: Row) -> str:
    verdict = str(row["verdict"])
    if verdict in ("the original", "fits"):
        return NEUTRAL
    return RIGHT if verdict == "taken" else WRONG
