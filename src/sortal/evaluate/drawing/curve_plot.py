"""The picture of a learning curve: accuracy against images a class, what is projected, and who gains most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, dress, new_figure, png
from sortal.evaluate.drawing.fonts import lettering
from sortal.evaluate.learning import Projection, fit_power_law

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 20
"""Classes in the right panel."""


def draw_curve(
    images: NDArray[np.float64],
    errors: Sequence[NDArray[np.float64]],
    projections: Sequence[Projection],
    report: Report,
    folder: Path,
) -> Path:
    """Write `learning_curve.png` into `folder`. `errors[p]` are those of the draws at point p. Raises MachineError when
    the disk refuses."""
    gains = [(str(row[0]), float(row[6])) for row in report.tables["classes"].rows if isinstance(row[6], float)]
    gains = [(name, gain) for name, gain in gains if gain >= 0.0005][:SHOWN]
    if gains:
        figure = new_figure(13.0, max(4.8, 1.4 + 0.24 * len(gains)))
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
        _draw_gains(right, gains)
    else:
        figure = new_figure(8.0, 4.8)
        left = figure.add_subplot()
    _draw_points(left, images, errors, projections, report.metrics["accuracy"].n)
    path = folder / "learning_curve.png"
    publish_file(path, png(figure, dpi=130))
    return path


def _draw_points(
    axes: Axes,
    images: NDArray[np.float64],
    errors: Sequence[NDArray[np.float64]],
    projections: Sequence[Projection],
    judged: int | None,
) -> None:
    from matplotlib.ticker import PercentFormatter

    means = np.array([draw.mean() for draw in errors])
    spread = np.array([[draw.max() - draw.mean(), draw.mean() - draw.min()] for draw in errors]).T
    law = fit_power_law(images, means, judged=judged)
    places = np.geomspace(max(1.0, images[0]), projections[-1].images, 100)
    axes.plot(places, 1 - law(places), color=RIGHT, linewidth=1.4, linestyle="--", label="fitted power law")
    axes.errorbar(images, 1 - means, yerr=spread, fmt="o", color=NEUTRAL, capsize=3, label="measured (range of draws)")
    ends = np.abs(np.array([[one.high - one.error, one.error - one.low] for one in projections]).T)
    axes.errorbar(
        [one.images for one in projections],
        [1 - one.error for one in projections],
        yerr=ends,
        fmt="s",
        color=RIGHT,
        capsize=3,
        label="projected (80 % range)",
    )
    for place, error, color in ((images[-1], means[-1], NEUTRAL), *((p.images, p.error, RIGHT) for p in projections)):
        text, where = f"{1 - error:.1%}", (float(place), float(1 - error))
        axes.annotate(text, where, textcoords="offset points", xytext=(-5, -14), ha="right", fontsize=9, color=color)
    axes.set_xscale("log")
    ticks = _ticks([*images, *(one.images for one in projections)])
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(top=min(1.02, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    dress(axes, "Accuracy against images a class", "training images a class (mean)", "accuracy on validation images")
    axes.legend(loc="lower right", frameon=False, fontsize=9)


def _draw_gains(axes: Axes, gains: Sequence[tuple[str, float]]) -> None:
    letters = lettering([name for name, _ in gains], longest=28)
    places = np.arange(len(gains))[::-1]
    axes.barh(places, [100 * gain for _, gain in gains], color=RIGHT, height=0.7)
    axes.set_yticks(places, list(letters.texts), fontsize=8.5, family=list(letters.families), parse_math=False)
    axes.set_ylim(-0.7, len(gains) - 0.3)
    dress(axes, "Expected gain of twice the images, by class", "recall, percentage points")


def _ticks(places: Sequence[float]) -> list[float]:
    """Those that are at least a factor of 1.4 from the one before, so that their numbers do not touch."""
    kept: list[float] = []
    for place in sorted(places):
        if not kept or place > 1.4 * kept[-1]:
            kept.append(float(place))
    return kept
