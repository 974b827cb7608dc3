"""The picture of a long tail: training images a class, most first, and below it how well each class is recognized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.publish import publish_file
from sortal.core.report import Table
from sortal.data.statistics import UNEVEN_RATIO, imbalance_ratio
from sortal.evaluate.drawing.canvas import NEUTRAL, new_figure, png
from sortal.evaluate.drawing.fonts import Lettering, lettering
from sortal.evaluate.drawing.plots import Drawn
from sortal.evaluate.tables import buckets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DRAWN_FROM = 2.0
"""Largest class over smallest from which on the picture says something."""
NAMED_UP_TO = 60
"""With more classes, names are left out."""
_COLORS = {"head": "#0b5cad", "mid": "#8250df", "tail": "#bc4c00"}


@dataclass(frozen=True, kw_only=True)
class ClassResults:
    """(C,) each: training images, and recall with its interval on the evaluated images, NaN where there are none."""

    names: tuple[str, ...]
    train_counts: Ints
    recall: Floats
    low: Floats
    high: Floats


def class_results(per_class: Table) -> ClassResults | None:
    """From the table of a report; None where training images are unknown or about equal."""
    if "training_images" not in per_class.columns:
        return None
    columns = dict(zip(per_class.columns, zip(*per_class.rows, strict=True), strict=True))
    counts = np.array(columns["training_images"], np.int64)
    if imbalance_ratio(counts) < DRAWN_FROM:
        return None
    recall, low, high = (_floats(columns[f"recall{end}"]) for end in ("", "_low", "_high"))
    return ClassResults(names=tuple(map(str, columns["class"])), train_counts=counts, recall=recall, low=low, high=high)


def draw_long_tail(results: ClassResults, path: Path) -> Drawn:
    """Draw as PNG; head, mid and tail in a color each. Raises MachineError when the file cannot be written."""
    order = np.argsort(-results.train_counts, kind="stable")
    groups = {bucket.name: bucket.members[order] for bucket in buckets(results.train_counts) if bucket.name in _COLORS}
    classes = len(order)
    named = classes <= NAMED_UP_TO
    letters = lettering([results.names[place] for place in order] if named else [], longest=24)
    figure = new_figure(max(9.5, 0.27 * classes if named else 11.0), 6.4)
    counts, recall = figure.subplots(2, 1, sharex=True)
    means = _draw_recall(recall, results, order, groups)
    _draw_counts(counts, results.train_counts[order], groups, means)
    _name_classes(recall, letters, classes, named=named)
    publish_file(path, png(figure, dpi=130))
    return Drawn(path=path, undrawn=letters.undrawn)


def _draw_counts(axes: Axes, counts: Ints, groups: Mapping[str, NDArray[np.bool_]], means: Mapping[str, float]) -> None:
    for name, members in groups.items():
        if members.any():
            recall = f", mean recall {means[name]:.0%}" if name in means else ""
            label = f"{name}: {int(members.sum())} {'class' if members.sum() == 1 else 'classes'}{recall}"
            axes.bar(np.flatnonzero(members), counts[members], color=_COLORS[name], width=0.8, label=label)
    if imbalance_ratio(counts) >= UNEVEN_RATIO:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylabel("training images")
    _tidy(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=8.5, frameon=False, borderaxespad=0.2)


def _draw_recall(
    axes: Axes, results: ClassResults, order: Ints, groups: Mapping[str, NDArray[np.bool_]]
) -> dict[str, float]:
    """Mean recall of each group that has evaluated images."""
    recall, low, high = (values[order] for values in (results.recall, results.low, results.high))
    seen, means = ~np.isnan(recall), dict[str, float]()
    for name, members in groups.items():
        places = np.flatnonzero(members & seen)
        if not len(places):
            continue
        ends = np.abs(np.stack([recall - low, high - recall])[:, places])
        axes.errorbar(places, recall[places], yerr=ends, fmt="o", markersize=4, linewidth=1.0, color=_COLORS[name])
        means[name] = float(recall[places].mean())
        axes.hlines(means[name], places[0] - 0.5, places[-1] + 0.5, color=_COLORS[name], linewidth=1.4, linestyle="--")
    axes.set_ylim(-0.03, 1.06)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel("recall, with its interval")
    _tidy(axes)
    return means


def _name_classes(axes: Axes, letters: Lettering, classes: int, *, named: bool) -> None:
    axes.set_xlim(-0.8, classes - 0.2)
    if not named:
        axes.set_xlabel("classes, most training images first; dashed: mean recall of the group")
        return
    axes.set_xticks(
        np.arange(classes), letters.texts, rotation=90, fontsize=8.5, family=list(letters.families), parse_math=False
    )
    axes.set_xlabel("dashed: mean recall of the group")


def _tidy(axes: Axes) -> None:
    axes.grid(axis="y", color="#d0d7de", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2, colors=NEUTRAL)


def _floats(cells: Sequence[object]) -> Floats:
    return np.array([np.nan if cell is None else cell for cell in cells], np.float64)
