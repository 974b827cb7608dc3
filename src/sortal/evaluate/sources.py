"""Metrics of each source apart: of each camera, line, site, or whatever a column of the table tells apart.

A classifier that is as good on one source as on another has learned the parts and not the cameras.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import InputError, nearest
from sortal.core.report import Finding, Table
from sortal.data.table import ImageTable
from sortal.evaluate.intervals import wilson
from sortal.evaluate.metrics import averages, class_counts, confusion

Ints = NDArray[np.int64]

NAME = "sources"
UNNAMED = "(none)"


def source_values(table: ImageTable, column: str) -> list[str]:
    """What a column says about every row, as text. Raises InputError where there is no such column."""
    if column not in table.frame.columns:
        known = [name for name in table.frame.columns if not name.startswith("_")]
        raise InputError("no such column", where=table.source, received=column, hint=nearest(column, known))
    return [UNNAMED if value is None else str(value) for value in table.frame[column].to_list()]


def sources_table(sources: Sequence[str], labels: Ints, answers: Ints, *, classes: int, confidence: float) -> Table:
    """One row a source, the least accurate first: images, accuracy with its interval, macro F1.

    `labels` and `answers` (N,) are class indices; rows where either is -1 (no label, unreadable) are left out.
    """
    known = (labels >= 0) & (answers >= 0)
    names, rows = np.array(sources, dtype=object), []
    for source in sorted(set(names[known].tolist())):
        mine = known & (names == source)
        right, count = int((labels[mine] == answers[mine]).sum()), int(mine.sum())
        low, high = wilson(right, count, confidence)
        macro = averages(class_counts(confusion(labels[mine], answers[mine], classes)))["macro"]
        rows.append((source, count, right / count, float(low), float(high), float(macro["f1"])))
    columns = ("source", "images", "accuracy", "accuracy_low", "accuracy_high", "macro_f1")
    return Table(columns=columns, rows=tuple(sorted(rows, key=lambda row: (row[2], row[0]))))


def sources_findings(table: Table, column: str) -> tuple[Finding, ...]:
    """A warning where the worst source is surely worse than the best: their intervals do not meet."""
    if len(table.rows) < 2:
        return ()
    worst, best = table.rows[0], table.rows[-1]
    if float(str(worst[4])) >= float(str(best[3])):
        return ()
    message = f"Accuracy depends on {column}: {worst[2]:.1%} on {worst[0]}, {best[2]:.1%} on {best[0]}."
    hint = f"train on images of every {column}; data.group={column} tests on ones that training has not seen"
    return (Finding(code="depends_on_source", severity="warning", message=message, hint=hint),)
