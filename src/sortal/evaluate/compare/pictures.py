"""The pictures of a comparison: accuracy against latency, and the images that changed with label and both answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.core.publish import publish_file
from sortal.data.table import ImageTable
from sortal.evaluate.compare.changes import Pair
from sortal.evaluate.compare.costs import ModelCost
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, new_figure, png
from sortal.evaluate.drawing.captioned import THUMBNAIL_PX, Line, captioned
from sortal.evaluate.drawing.fonts import lettering
from sortal.evaluate.drawing.thumbnails import thumbnail

SHOWN = 24
"""Images of either kind on the page."""


def draw_trade_off(rows: Sequence[ModelCost], path: Path) -> Path:
    """Accuracy with its interval against latency of one image; models that no other beats in both are green."""
    known = [row for row in rows if row.latency_1_ms is not None]
    letters = lettering([row.model for row in known], longest=40)
    figure = new_figure(8.0, 5.0)
    axes = figure.add_subplot()
    for row, text in zip(known, letters.texts, strict=True):
        place = float(row.latency_1_ms or 0.0)
        color = RIGHT if _unbeaten(row, known) else NEUTRAL
        ends = [[100 * (row.accuracy - row.accuracy_low)], [100 * (row.accuracy_high - row.accuracy)]]
        axes.errorbar([place], [100 * row.accuracy], yerr=ends, fmt="o", color=color, markersize=7, capsize=4)
        axes.annotate(
            text,
            (place, 100 * row.accuracy),
            textcoords="offset points",
            xytext=(8, 6),
            fontsize=9,
            color=color,
            family=list(letters.families),
            parse_math=False,
        )
    axes.margins(x=0.35, y=0.12)
    dress(axes, "Accuracy against latency", "latency of one image from bytes to decision, median, ms", "accuracy, %")
    axes.set_xlim(left=0)
    publish_file(path, png(figure, dpi=130))
    return path


def draw_changes(
    table: ImageTable, rows: Sequence[int], pair: Pair, chosen: NDArray[np.int64], path: Path, *, names: tuple[str, str]
) -> Path | None:
    """Up to 24 of the `chosen` rows of a pair, each with its true class and the two answers; None where none opens.

    `rows` says which row of the `table` each image of the pair is.
    """
    images, captions = list[NDArray[np.uint8]](), list[list[Line]]()
    for row in chosen.tolist():
        with suppress(ImageError):
            images.append(thumbnail(table, rows[row], THUMBNAIL_PX))
            true, first, second = (pair.classes[one.item()] for one in _answers(pair, row))
            colors = (RIGHT, WRONG) if pair.first.index[row] == pair.labels[row] else (WRONG, RIGHT)
            said = zip((f"{names[0]}: {first}", f"{names[1]}: {second}"), colors, strict=True)
            captions.append([(true, NEUTRAL), *said])
        if len(images) == SHOWN:
            break
    if not images:
        return None
    publish_file(path, captioned(images, captions))
    return path


def _answers(pair: Pair, row: int) -> tuple[NDArray[np.int64], ...]:
    return tuple(np.asarray(part[row]) for part in (pair.labels, pair.first.index, pair.second.index))


def _unbeaten(row: ModelCost, others: Sequence[ModelCost]) -> bool:
    """Whether no other model is at least as accurate and as quick, and better in one of both."""

    def rank(one: ModelCost) -> tuple[float, float]:
        return one.accuracy, -float(one.latency_1_ms or 0.0)

    mine = rank(row)
    return not any(
        rank(other) != mine and all(a >= b for a, b in zip(rank(other), mine, strict=True)) for other in others
    )
