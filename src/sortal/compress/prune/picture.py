"""The picture of sensitivity: accuracy against the share of channels cut, one line a set of channels."""

from __future__ import annotations

from pathlib import Path

from sortal.compress.prune.sensitivity import Sensitivity
from sortal.core.publish import publish_file
from sortal.evaluate.drawing.canvas import dress, new_figure, png

_APART = 0.045
"""Labels stand at least this share of the height apart."""


def draw_sensitivity(seen: Sensitivity, path: Path) -> Path:
    """Lines from the whole network to each share, with their layers' names at the end, from the best to the worst.

    Raises MachineError when the disk refuses.
    """
    figure = new_figure(9.5, max(4.8, 1.8 + 0.26 * len(seen.accuracy)))
    axes = figure.subplots()
    shares = [0.0, *(100 * share for share in seen.shares)]
    lines = sorted(seen.accuracy.items(), key=lambda item: item[1][-1])
    lowest, highest = accuracy_range(seen)
    height = max(100 * (highest - lowest), 1.0) * 1.12
    floor = -1e9
    for number, (name, values) in enumerate(lines):
        heights = [100 * seen.whole, *(100 * value for value in values)]
        color = f"C{number % 10}"
        axes.plot(shares, heights, color=color, marker="o", markersize=3.5, linewidth=1.4)
        floor = max(heights[-1], floor + _APART * height)
        axes.annotate(
            name,
            (shares[-1], heights[-1]),
            xytext=(shares[-1] + 6, floor),
            fontsize=8,
            color=color,
            va="center",
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5, "relpos": (0.0, 0.5)},
        )
    axes.set_xlim(-2, 120)
    axes.set_xticks(shares)
    axes.set_ylim(100 * lowest - 0.06 * height, max(100 * highest + 0.06 * height, floor + _APART * height))
    dress(
        axes,
        "What each set of channels can spare, cut alone, before any training",
        "channels cut, %",
        f"accuracy on {seen.images} validation images, %",
    )
    publish_file(path, png(figure, dpi=130))
    return path


def accuracy_range(seen: Sensitivity) -> tuple[float, float]:
    """The lowest and the highest accuracy of all, which after a cut may be above that of the whole network."""
    every = [seen.whole, *(value for values in seen.accuracy.values() for value in values)]
    return min(every), max(every)
