"""What robustness adds to an evaluation: metrics, two tables, a finding, two pictures."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.core.progress import Listener
from sortal.core.report import Report
from sortal.data.table import ImageTable
from sortal.evaluate.drawing.thumbnails import thumbnail
from sortal.evaluate.robustness.plot import draw_corruptions, draw_robustness
from sortal.evaluate.robustness.study import corrupted_answers
from sortal.evaluate.robustness.summary import (
    CLASSES,
    TABLE,
    fragile_classes,
    robustness_findings,
    robustness_metrics,
    robustness_table,
)
from sortal.runtime.classifier import Classifier

Ints = NDArray[np.int64]

_SHOWN_PX = 160


def with_robustness(
    report: Report, classifier: Classifier, table: ImageTable, labels: Ints, images: int, listener: Listener
) -> Report:
    """The report with what corruptions do to `images` of the labelled images, stratified; the same ones every time."""
    answers = corrupted_answers(
        classifier,
        table,
        labels,
        images=images,
        progress=lambda done, all: listener.progress("corrupted images", done, all),
    )
    confidence = report.body["confidence"]
    tables = {
        TABLE: robustness_table(answers, confidence),
        CLASSES: fragile_classes(answers, classifier.labels.names),
    }
    update = {
        "metrics": {**report.metrics, **robustness_metrics(answers, confidence)},
        "tables": {**report.tables, **tables},
        "findings": (*report.findings, *robustness_findings(answers, confidence)),
    }
    return report.model_copy(update=update)


def draw_robust(report: Report, table: ImageTable | None, folder: Path) -> dict[str, Path]:
    """Draw the chart, and with `table` one of its images, into `folder`; paths by the titles they have on a page."""
    if TABLE not in report.tables:
        return {}
    found = {"accuracy under corruption": draw_robustness(report.tables[TABLE], folder / "robustness.png")}
    example = None if table is None else _first_readable(table)
    if example is not None:
        names = tuple(dict.fromkeys(str(row[0]) for row in report.tables[TABLE].rows))
        found["one image under every corruption"] = draw_corruptions(example, names, folder / "corruptions.png")
    return found


def _first_readable(table: ImageTable) -> NDArray[np.uint8] | None:
    for row in range(len(table)):
        with suppress(ImageError):
            return thumbnail(table, row, _SHOWN_PX)
    return None
