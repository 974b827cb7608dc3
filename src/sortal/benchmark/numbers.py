"""Numbers of measured rows: medians, accuracy, and decisions that differ from the original's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sortal.benchmark.entries import LIVE
from sortal.benchmark.material import Images
from sortal.benchmark.row import BATCHES, Row
from sortal.core.predictions import Predictions
from sortal.core.report import Metric
from sortal.core.shares import wilson
from sortal.evaluate.latency import PERCENTILE

CONFIDENCE = 0.95
LARGEST = str(BATCHES[-1])
"""The key of times of the largest batch."""


def flips(row: Row, original: Row | None) -> list[int] | None:
    """Rows of images that are decided otherwise than by the original; None where one of both has no answers."""
    if original is None or original.predictions is None or row.predictions is None:
        return None
    one, other = original.predictions, row.predictions
    changed = (one.index != other.index) | (one.abstained != other.abstained)
    return [int(place) for place in np.flatnonzero(changed)]


def original_of(rows: Sequence[Row]) -> Row | None:
    """The first float32 artifact that ran, the bundle's own ONNX file where that did."""
    ran = [row for row in rows if row.status == "ok" and row.entry.precision == "float32"]
    return ran[0] if ran else None


def comparable(rows: Sequence[Row]) -> list[Row]:
    """Artifacts that ran and take prepared batches: graphs that resize have that in their times."""
    return [row for row in rows if row.status == "ok" and row.times_ms.get(LARGEST) and row.entry.artifact != LIVE]


def accuracy_of(predictions: Predictions | None, images: Images) -> Metric | None:
    """Share of right answers with its interval; None without answers or labels."""
    if predictions is None or images.labelled is None:
        return None
    right = predictions.index == images.labelled.labels
    low, high = wilson(int(right.sum()), len(right), CONFIDENCE)
    return Metric(value=float(right.mean()), low=float(low), high=float(high), n=len(right))


def median_ms(row: Row, key: str) -> float | None:
    """Of the times under a key; None where there are none."""
    times = row.times_ms.get(key)
    return float(np.median(times)) if times else None


def tail_ms(row: Row, key: str) -> float | None:
    """The 99th percentile of the times under a key; None where there are none."""
    times = row.times_ms.get(key)
    return float(np.percentile(times, 100 * PERCENTILE)) if times else None


def per_second(row: Row) -> float | None:
    """Images a second in the largest batch; None for a row that takes single images alone."""
    middle = median_ms(row, LARGEST)
    return None if middle is None else 1000 * BATCHES[-1] / middle
