"""Two pictures: accuracy lost as a chart of corruptions by strength, and one image under all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sortal.core.publish import publish_file
from sortal.core.report import Table
from sortal.evaluate.drawing.canvas import dress, new_figure, png
from sortal.evaluate.robustness import CORRUPTIONS
from sortal.evaluate.robustness.corruption import STRENGTHS, Pixels


def draw_robustness(table: Table, path: Path) -> Path:
    """Accuracy in every cell, darker where more is lost; most fragile corruption at the top. `table` is that of
    `robustness_table`."""
    names = list(dict.fromkeys(str(row[0]) for row in table.rows))
    accuracy = np.array([row[3] for row in table.rows], np.float64).reshape(len(names), STRENGTHS)
    lost = np.array([row[6] for row in table.rows], np.float64).reshape(len(names), STRENGTHS)
    order = np.argsort(-lost.mean(axis=1), kind="stable")
    figure = new_figure(8.0, 1.6 + 0.42 * len(names))
    axes = figure.subplots()
    most = max(0.3, float(lost.max()))
    axes.imshow(lost[order], cmap="OrRd", vmin=0.0, vmax=most, aspect="auto")
    for row, number in enumerate(order):
        for column in range(STRENGTHS):
            dark = lost[number, column] > 0.55 * most
            axes.text(
                column,
                row,
                f"{accuracy[number, column]:.0%}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else "black",
            )
    axes.set_yticks(
        range(len(names)), [f"{names[n].replace('_', ' ')} ({CORRUPTIONS.get(names[n]).what})" for n in order]
    )
    axes.set_xticks(range(STRENGTHS), [str(strength) for strength in range(1, STRENGTHS + 1)])
    dress(axes, "accuracy under corruption (darker: more lost)", "strength")
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    publish_file(path, png(figure))
    return path


def draw_corruptions(pixels: Pixels, names: tuple[str, ...], path: Path) -> Path:
    """One image (H, W, 3) under every corruption (rows) at every strength (columns)."""
    figure = new_figure(1.0 + 1.35 * (STRENGTHS + 1), 0.6 + 1.35 * len(names))
    grid = figure.subplots(len(names), STRENGTHS + 1, squeeze=False)
    for number, name in enumerate(names):
        corruption = CORRUPTIONS.get(name)
        for strength in range(STRENGTHS + 1):
            axes = grid[number, strength]
            own = np.random.Generator(np.random.Philox(key=strength))
            axes.imshow(pixels if strength == 0 else corruption.at(pixels, strength, own))
            axes.set_xticks([])
            axes.set_yticks([])
            if number == 0:
                axes.set_title("as it is" if strength == 0 else f"strength {strength}", fontsize=9)
        grid[number, 0].set_ylabel(name.replace("_", " "), fontsize=9)
    publish_file(path, png(figure, dpi=90))
    return path
