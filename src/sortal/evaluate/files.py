"""The files of an evaluation: report.json, report.html, the confusion matrix as picture and table, answers by image.

Where training classes were unequal, there is also a picture of their sizes with the recall of each.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions
from sortal.core.publish import publish_file
from sortal.core.report import Finding, Report
from sortal.evaluate.drawing.longtail import class_results, draw_long_tail
from sortal.evaluate.drawing.plots import confusion_matrix
from sortal.evaluate.gallery import Show, gallery
from sortal.evaluate.measure.metrics import confusion
from sortal.evaluate.pages.evaluation import render_evaluation
from sortal.evaluate.pages.page import Picture

if TYPE_CHECKING:
    import polars

Ints = NDArray[np.int64]


def write_evaluation(
    report: Report,
    predictions: Predictions,
    labels: Ints,
    table_names: Sequence[str],
    folder: Path,
    *,
    true_names: Sequence[str | None] | None = None,
    pictures: Mapping[str, Picture] | None = None,
    show: Show | None = None,
) -> Report:
    """Write the files into `folder` (made if missing) and return the report with their paths.

    `labels` (N,) are those of `evaluate_predictions`, `table_names` what the data call each image. `true_names` are the
    labels as the data name them, for images whose class the classifier does not know; by default those have none.
    `pictures` go on the page after the confusion matrix, under their keys; `show` makes the thumbnails of the images
    behind its cells, without it they are named only.
    Raises MachineError when a file cannot be written.
    """
    readable = (labels >= 0) & (predictions.index >= 0)
    names = predictions.labels.names
    matrix = confusion(labels[readable], predictions.index[readable], len(names))
    drawn = confusion_matrix(matrix, names, folder / "confusion_matrix.png")
    tail = class_results(report.tables["per_class"]) if "per_class" in report.tables else None
    if tail is not None:
        draw_long_tail(tail, folder / "class_counts.png")
    publish_file(folder / "confusion_matrix.csv", confusion_csv(matrix, names))
    publish_file(folder / "predictions.csv", predictions_csv(predictions, labels, table_names, true_names))
    kinds = {
        "report": "report.html",
        "json": "report.json",
        "confusion_matrix": "confusion_matrix.png",
        "confusion_matrix_table": "confusion_matrix.csv",
        "predictions": "predictions.csv",
    }
    if tail is not None:
        kinds["class_counts"] = "class_counts.png"
    report = report.model_copy(
        update={
            "paths": {**report.paths, **{key: str(folder / name) for key, name in kinds.items()}},
            "findings": (*report.findings, *_undrawn(drawn.undrawn)),
        }
    )
    own = {"training images and recall by class": "class_counts.png"} if tail is not None else {}
    shown = {title: folder / name for title, name in own.items()} | dict(pictures or {})
    images = gallery(predictions, labels, table_names, show=show)
    page = render_evaluation(report, matrix, predictions.labels, images, pictures=shown)
    publish_file(folder / "report.html", page.encode())
    publish_file(folder / "report.json", report.to_json().encode())
    return report


def confusion_csv(matrix: Ints, names: Sequence[str]) -> bytes:
    """The matrix as CSV: true class in rows, which sum to the class's images, answers in columns."""
    import polars

    columns = {"true class": list(names)}
    columns |= {f"answered {name}": matrix[:, index].tolist() for index, name in enumerate(names)}
    return _csv(polars.DataFrame(columns))


def predictions_csv(
    predictions: Predictions, labels: Ints, table_names: Sequence[str], true_names: Sequence[str | None] | None = None
) -> bytes:
    """One row an image: image, label (true), answer, probability, correct, abstained, error, one `p_<class>` a class.

    `correct` is empty where there is no known label or the image could not be read.
    """
    import polars

    names = predictions.labels.names
    known = [names[label] if label >= 0 else None for label in labels.tolist()]
    told = (labels >= 0) & (predictions.index >= 0)
    right = [bool(a == b) if ok else None for a, b, ok in zip(labels, predictions.index, told, strict=True)]
    frame = predictions.to_polars().rename({"label": "answer"})
    frame = frame.with_columns(image=polars.Series(list(table_names), dtype=polars.String))
    frame.insert_column(1, polars.Series("label", list(true_names or known), dtype=polars.String))
    frame.insert_column(frame.columns.index("abstained"), polars.Series("correct", right, dtype=polars.Boolean))
    return _csv(frame)


def _csv(frame: polars.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_csv(buffer, float_precision=6)
    return buffer.getvalue()


def _undrawn(names: Sequence[str]) -> tuple[Finding, ...]:
    if not names:
        return ()
    return (
        Finding(
            code="font_missing",
            severity="info",
            message=f"No installed font can draw {len(names)} of the class names; pictures show their numbers instead.",
            rows=tuple(names[:1000]),
            hint="install a font that has them, for Chinese for example fonts-noto-cjk, and evaluate again",
        ),
    )
