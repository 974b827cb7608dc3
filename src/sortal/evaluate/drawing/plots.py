"""The pictures of a run and an evaluation: confusion matrix, training curves, mosaics of images with their answers.

Drawn with matplotlib's objects on an off-screen canvas: no window, no global state, nothing kept between calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.publish import publish_file
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, jpeg, new_figure, png
from sortal.evaluate.drawing.fonts import Lettering, lettering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS: dict[bool | None, str] = {True: RIGHT, False: WRONG, None: NEUTRAL}
COUNTS_UP_TO = 25
MOSAIC_LIMIT = 64
_LABELS_UP_TO = 300
_SKIPPED = {"epoch", "epochs", "step", "steps", "stage", "strength", "seed", "n", "images", "batch"}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture on disk, and the class names in it that no installed font could draw (their numbers stand there)."""

    path: Path
    undrawn: tuple[str, ...] = ()


def confusion_matrix(matrix: NDArray[np.int64], names: Sequence[str], path: Path) -> Drawn:
    """Draw (C, C) counts as PNG: colour is the share of the true class, which is in rows.

    Counts are written into the cells up to 25 classes. The canvas grows with the classes so that every name stays
    legible; above 300 classes only every n-th is named. Raises MachineError when the file cannot be written.
    """
    classes = len(names)
    letters = lettering(names, longest=40)
    cell, size_pt = _cell_size(classes)
    figure, axes = _matrix_canvas(classes, cell, size_pt, letters)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="equal")
    _grid(axes, classes)
    _name_axes(axes, letters, size_pt, cell)
    if classes <= COUNTS_UP_TO:
        _write_counts(axes, matrix, shares, size_pt)
    _color_bar(figure, axes, picture)
    publish_file(path, png(figure, crop=True))
    return Drawn(path=path, undrawn=letters.undrawn)


def results(history: Sequence[Mapping[str, Any]], path: Path) -> Drawn:
    """Draw training curves as PNG from one mapping an epoch: losses, validation metrics and the learning rate.

    Keys that end in `loss` share a panel, as do those that start with `lr`; other numbers within 0 to 1 are metrics.
    Keys named like times or counts are left out, and so is a panel with nothing in it. Where there was no epoch but a
    head on frozen features, its validation numbers are drawn over the strengths of the penalty that were `tried`.
    """
    tried = history[0].get("tried") if len(history) == 1 else None
    history, key = (tried, "strength") if tried else (history, "epoch")
    panels = {title: series for title, series in _series(history).items() if series}
    figure = new_figure(5.2 * max(len(panels), 1), 3.8)
    places = np.array([float(row.get(key, number + 1)) for number, row in enumerate(history)])
    for place, (title, series) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, values in series.items():
            for label, rows in _curves(name, history):
                axes.plot(places[rows], np.array(values)[rows], marker="o", markersize=3, linewidth=1.6, label=label)
        _name_axis(axes, title, key)
    if not panels:
        figure.text(0.5, 0.5, "no epoch was recorded", ha="center", va="center")
    publish_file(path, png(figure, dpi=130))
    return Drawn(path=path)


def mosaic(
    images: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    path: Path,
    *,
    correct: Sequence[bool | None] | None = None,
) -> Drawn:
    """Draw up to 64 images (H, W, C or H, W) with a caption each as JPEG; right ones green, wrong ones red.

    Lines of a caption are separated by a newline. Captions that no font can draw become their number.
    """
    count = min(len(images), MOSAIC_LIMIT)
    columns = max(1, min(8, int(np.ceil(np.sqrt(count)))))
    rows = max(1, -(-count // columns))
    figure = new_figure(1.9 * columns, 2.35 * rows)
    lines = [line for caption in captions[:count] for line in caption.split("\n")]
    letters = lettering(lines, longest=24)
    shown = iter(letters.texts)
    for place in range(count):
        axes = figure.add_subplot(rows, columns, place + 1)
        text = "\n".join(next(shown) for _ in captions[place].split("\n"))
        color = NEUTRAL if correct is None else _COLORS[correct[place]]
        _tile(axes, images[place], text, letters.families, color)
    publish_file(path, jpeg(figure))
    return Drawn(path=path, undrawn=letters.undrawn)


def answer_captions(names: Sequence[str], true: Sequence[int], answered: Sequence[int]) -> list[str]:
    """Captions for `mosaic`: the true class, and below it the answer where it differs. -1 is no label or no answer."""
    letters = lettering(names)
    shown = [*letters.texts, "(none)"]
    return [
        shown[label] if label == answer else f"{shown[label]}\nanswered {shown[answer]}"
        for label, answer in zip(true, answered, strict=True)
    ]


def _cell_size(classes: int) -> tuple[float, float]:
    """Inches a cell and points of the class names."""
    if classes <= COUNTS_UP_TO:
        return 0.52, 9.0
    if classes <= 60:
        return 0.24, 8.5
    if classes <= _LABELS_UP_TO:
        return 0.105, 6.3
    return max(28.0 / classes, 0.014), 6.3


def _matrix_canvas(classes: int, cell: float, size_pt: float, letters: Lettering) -> tuple[Figure, Axes]:
    """A canvas with room for the longest name below and to the left of the matrix, and for the colour bar."""
    side = max(cell * classes, 1.6)
    margin = 0.55 + max(_width_in(text, size_pt) for text in letters.texts)
    below = 1.05 if letters.undrawn else 0.75
    width, height = margin + side + 1.1, margin + side + below
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    figure.text(
        margin / width,
        1.0 - 0.12 / height,
        "Rows: true class. Columns: answer.\nColor: share of the row."
        + (f"\n#number: {len(letters.undrawn)} names that no installed font can draw" if letters.undrawn else ""),
        ha="left",
        va="top",
        fontsize=9,
        color=NEUTRAL,
    )
    return figure, axes


def _width_in(text: str, size_pt: float) -> float:
    """Generous width of a text in inches: a CJK character is as wide as it is high, a Latin one about 0.62 of it."""
    return sum(1.05 if ord(char) > 0x2E7F else 0.66 for char in text) * size_pt / 72


def _name_axes(axes: Axes, letters: Lettering, size_pt: float, cell: float) -> None:
    step = max(1, int(np.ceil(size_pt / 72 * 1.15 / cell)))
    places = np.arange(0, len(letters.texts), step)
    names = [letters.texts[place] for place in places]
    style: dict[str, Any] = {"fontsize": size_pt, "family": list(letters.families), "parse_math": False}
    axes.set_yticks(places, names, **style)
    axes.set_xticks(places, names, rotation=90, **style)
    axes.tick_params(length=2 if cell > 0.2 else 1, width=0.5, pad=2, colors=NEUTRAL)


def _grid(axes: Axes, classes: int) -> None:
    if classes <= _LABELS_UP_TO:
        edges = np.arange(-0.5, classes, 1.0)
        axes.hlines(edges, -0.5, classes - 0.5, colors="#d0d7de", linewidth=0.3)
        axes.vlines(edges, -0.5, classes - 0.5, colors="#d0d7de", linewidth=0.3)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)


def _write_counts(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64], size_pt: float) -> None:
    for row, column in zip(*np.nonzero(matrix), strict=True):
        count = int(matrix[row, column])
        color = "white" if shares[row, column] > 0.55 else "black"
        size = size_pt if count < 10_000 else size_pt * 0.7
        axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=size)


def _color_bar(figure: Figure, axes: Axes, picture: Any) -> None:
    box = axes.get_position()
    width, height = figure.get_size_inches()
    tall = min(box.height, 6.0 / height)
    bar = figure.add_axes((box.x1 + 0.18 / width, box.y1 - tall, 0.16 / width, tall))
    figure.colorbar(picture, cax=bar, format=lambda share, _: f"{share:.0%}")
    bar.tick_params(labelsize=9)


def _curves(name: str, history: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[int]]]:
    """The label and the rows of each curve of a number: one for each kind of head, whose strengths do not compare."""
    kinds: dict[object, list[int]] = {}
    for number, row in enumerate(history):
        kinds.setdefault(row.get("kind"), []).append(number)
    return [(name if len(kinds) == 1 else f"{name}, {kind}", rows) for kind, rows in kinds.items()]


def _series(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    panels: dict[str, dict[str, list[float]]] = {"Loss": {}, "Validation metrics": {}, "Learning rate": {}}
    for key in dict.fromkeys(key for row in history for key in row):
        values = [_number(row.get(key)) for row in history]
        known = [value for value in values if not np.isnan(value)]
        if not known or key in _SKIPPED or key.endswith(("_s", "_count", "_mb")):
            continue
        if key.endswith("loss"):
            panels["Loss"][key] = values
        elif key == "lr" or key.startswith("lr_") or key == "learning_rate":
            panels["Learning rate"][key] = values
        elif min(known) >= 0.0 and max(known) <= 1.0:
            panels["Validation metrics"][key] = values
    return panels


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _name_axis(axes: Axes, title: str, key: str) -> None:
    from matplotlib.ticker import MaxNLocator

    if key == "strength":
        axes.set_xscale("log")
        dress(axes, title, "strength of the head's penalty")
    else:
        dress(axes, title, "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False)


def _tile(axes: Axes, image: NDArray[np.uint8], caption: str, families: Sequence[str], color: str) -> None:
    shown = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(color)
        spine.set_linewidth(0.8 if color == NEUTRAL else 2.5)
    axes.set_title(caption, fontsize=8, color=color, family=list(families), parse_math=False, pad=3)
