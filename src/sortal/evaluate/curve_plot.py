"""The picture of a learning curve: accuracy against images a class, what is projected, and who gains most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.publish import publish_file
from sortal.core.report import Report
from sortal.evaluate.canvas import NEUTRAL, RIGHT, dress, new_figure, png
from sortal.evaluate.fonts import lettering
from sortal.evaluate.learning import Projection, fit_power_law

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 15
"""Classes in the right panel."""


def draw_curve(
    images: NDArray[np.float64],
    draws: Sequence[NDArray[np.float64]],
    projections: Sequence[Projection],
    report: Report,
    folder: Path,
) -> Path:
    """Write `learning_curve.png` into `folder`. Raises MachineError when the disk refuses."""
    figure = new_figure(12.0, 4.8)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
    _draw_points(left, images, draws, projections)
    _draw_gains(right, report)
    path = folder / "learning_curve.png"
    publish_file(path, png(figure, dpi=130))
    return path


def _draw_points(
    axes: Axes, images: NDArray[np.float64], draws: Sequence[NDArray[np.float64]], projections: Sequence[Projection]
) -> None:
    means = np.array([draw.mean() for draw in draws])
    spread = np.array([[draw.mean() - draw.min(), draw.max() - draw.mean()] for draw in draws]).T
    axes.errorbar(images, 1 - means, yerr=spread[::-1], fmt="o", color=NEUTRAL, capsize=3, label="measured")
    law = fit_power_law(images, means)
    places = np.geomspace(images[0], projections[-1].images, 100)
    axes.plot(
        places, [1 - law(place) for place in places], color=RIGHT, linewidth=1.4, linestyle="--", label="power law"
    )
    for one in projections:
        ends = [[one.high - one.error], [one.error - one.low]]
        axes.errorbar([one.images], [1 - one.error], yerr=np.abs(ends), fmt="s", color=RIGHT, capsize=3)
        axes.annotate(
            f"{1 - one.error:.1%}", (one.images, 1 - one.error), textcoords="offset points", xytext=(0, 9), ha="center"
        )
    axes.set_xscale("log")
    ticks = [*images, *(one.images for one in projections)]
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("accuracy on validation images")
    dress(axes, "more images a class", "training images a class")
    axes.legend(loc="lower right", frameon=False)


def _draw_gains(axes: Axes, report: Report) -> None:
    rows = [row for row in report.tables["classes"].rows if isinstance(row[4], float) and row[4] > 0][:SHOWN]
    letters = lettering([str(row[0]) for row in rows], longest=28)
    places = np.arange(len(rows))[::-1]
    axes.barh(places, [float(str(row[4])) for row in rows], color=RIGHT, height=0.7)
    axes.set_yticks(places, list(letters.texts), fontsize=8, fontfamily=list(letters.families))
    dress(axes, "who gains most from twice the images", "recall gained")
    if not rows:
        axes.text(0.5, 0.5, "no class has anything to gain here", ha="center", va="center", transform=axes.transAxes)
