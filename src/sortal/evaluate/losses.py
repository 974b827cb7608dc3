"""The images with the highest loss: what the classifier was surest about and wrong, or what is labelled wrong."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.core.predictions import Predictions
from sortal.core.publish import publish_file
from sortal.core.report import Report, Table
from sortal.data.table import ImageTable
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG
from sortal.evaluate.drawing.captioned import THUMBNAIL_PX, Line, captioned
from sortal.evaluate.drawing.thumbnails import thumbnail

Ints = NDArray[np.int64]

NAME = "highest_loss"
LISTED = 100
SHOWN = 24
_LEAST = 0.1
"""In nats: a true class with a probability above 0.90 is no finding."""
_SMALLEST = 1e-12


def with_highest_losses(report: Report, predictions: Predictions, labels: Ints, names: list[str]) -> Report:
    """The report with the table `highest_loss`: image, given label, answer, both probabilities, loss in nats.

    The log loss of an image is minus the logarithm of the probability of its given label. Images without a known label
    and unreadable ones are left out; the table is left out where no loss is above 0.1.
    """
    rows = worst_rows(predictions, labels)[:LISTED]
    if not len(rows):
        return report
    classes = predictions.labels.names
    given = predictions.probabilities[rows, labels[rows]].astype(np.float64)
    cells = tuple(
        (
            names[row],
            classes[labels[row]],
            classes[predictions.index[row]],
            round(float(predictions.probability[row]), 4),
            round(chance, 6),
            round(-float(np.log(max(chance, _SMALLEST))), 3),
        )
        for row, chance in zip(rows.tolist(), given.tolist(), strict=True)
    )
    columns = ("image", "given", "answered", "probability", "probability_of_given", "loss")
    return report.model_copy(update={"tables": {**report.tables, NAME: Table(columns=columns, rows=cells)}})


def worst_rows(predictions: Predictions, labels: Ints) -> Ints:
    """Rows with a loss above 0.1, the highest first."""
    known = np.flatnonzero((labels >= 0) & (predictions.index >= 0))
    losses = -np.log(np.maximum(predictions.probabilities[known, labels[known]].astype(np.float64), _SMALLEST))
    order = np.argsort(-losses, kind="stable")
    return known[order[losses[order] > _LEAST]]


def draw_losses(table: ImageTable, predictions: Predictions, labels: Ints, folder: Path) -> dict[str, Path]:
    """Draw `highest_loss.png`; empty where there is nothing to show."""
    images, captions, names = [], list[list[Line]](), predictions.labels.names
    for row in worst_rows(predictions, labels)[:SHOWN].tolist():
        with suppress(ImageError):
            images.append(thumbnail(table, row, THUMBNAIL_PX))
            right = predictions.index[row] == labels[row]
            answer = f"answered {names[predictions.index[row]]} {predictions.probability[row]:.1%}"
            chance = f"given class {predictions.probabilities[row, labels[row]]:.2%}"
            captions.append([(names[labels[row]], NEUTRAL), (answer, RIGHT if right else WRONG), (chance, NEUTRAL)])
    if not images:
        return {}
    path = folder / f"{NAME}.png"
    publish_file(path, captioned(images, captions))
    return {"images with the highest loss": path}
