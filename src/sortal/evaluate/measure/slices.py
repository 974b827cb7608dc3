"""Accuracy by slice: by camera, line, site, size, or whatever a column of the table tells apart, and by two at once.

A classifier that is as good on one slice as on another has learned the parts and not the cameras. Whoever looks at
many slices finds one that is weak by chance, so a slice is called weak only by a test corrected for their number (Holm
1979). Numbers are cut into four bins of equally many images.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import InputError, nearest
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Finding, Report, Table
from sortal.data.table import ImageTable
from sortal.evaluate.asked import group_numbers
from sortal.evaluate.measure.grouped import Bools, Ints, Sample, grouped, share_interval
from sortal.evaluate.measure.metrics import averages, class_counts, confusion
from sortal.evaluate.measure.weaker import holm, weaker_p

NAME = "slices"
UNNAMED = "(none)"
FEW_IMAGES = 30
FEW_GROUPS = 5
BINS = 4
_MOST_NUMBERS = 8
"""A column of numbers with at most so many different ones is taken as it is."""
_MOST_SLICES = 5000
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Slicing:
    """One way to tell images apart: `by` names the column or the two columns, `names` (N,) each image's slice."""

    by: str
    names: NDArray[np.object_]


def slicings(table: ImageTable, columns: Sequence[str]) -> list[Slicing]:
    """Every column apart, then every two together. Raises InputError where there is no such column."""
    single = [Slicing(by=column, names=_values(table, column)) for column in dict.fromkeys(columns)]
    pairs = [
        Slicing(
            by=f"{one.by} × {two.by}",
            names=np.array([f"{a} × {b}" for a, b in zip(one.names, two.names, strict=True)], dtype=object),
        )
        for one, two in combinations(single, 2)
    ]
    return single + pairs


def with_slices(
    report: Report, predictions: Predictions, labels: Ints, table: ImageTable, columns: Sequence[str]
) -> Report:
    """The report of an evaluation of the rows (N) of `table` with the table of its slices and what that means."""
    rows = np.flatnonzero((labels >= 0) & (predictions.index >= 0))
    part = table.select(rows)
    sample = grouped(group_numbers(part), confidence=report.body["confidence"])
    found = slicings(part, columns)
    sliced = slices_table(found, sample, labels[rows], predictions.index[rows], classes=len(predictions.labels))
    return report.model_copy(
        update={
            "tables": {**report.tables, NAME: sliced},
            "findings": (*report.findings, *slices_findings(sliced)),
            "provenance": {**report.provenance, "slices_by": list(columns)},
        }
    )


def slices_table(found: Sequence[Slicing], sample: Sample, labels: Ints, answers: Ints, *, classes: int) -> Table:
    """One row a slice, the least accurate first: images, accuracy with its interval, macro F1, and a verdict.

    `labels` and `answers` (N,) are those of the images of `sample`. `p_value` is that of the slice being weaker than
    all other images, after Holm's correction over every slice that is large enough to be tested.
    """
    right = labels == answers
    rows: list[list[Cell]] = []
    tested: list[tuple[int, float]] = []
    for one in found:
        names, codes = np.unique(one.names.astype(str), return_inverse=True)
        for place, name in enumerate(names[:_MOST_SLICES].tolist()):
            inside = codes == place
            if _enough(sample, inside) and not inside.all():
                tested.append((len(rows), weaker_p(sample, right, inside)))
            rows.append([one.by, name, *_measured(sample, right, inside, labels, answers, classes)])
    adjusted = dict(zip([row for row, _ in tested], holm([p for _, p in tested]), strict=True))
    limit = 1.0 - sample.confidence
    full = [(*row, *_verdict(adjusted.get(place), limit, row)) for place, row in enumerate(rows)]
    columns = ("by", "slice", "images", "groups", "accuracy", "accuracy_low", "accuracy_high", "macro_f1")
    ordered = sorted(full, key=lambda row: (row[9] == SMALL, float(str(row[4])), str(row[1])))
    return Table(columns=(*columns, "p_value", "verdict"), rows=tuple(ordered))


WEAK, ALIKE, SMALL, WHOLE = "weaker than the rest", "not distinguishable", "too small", "all images"


def slices_findings(table: Table) -> tuple[Finding, ...]:
    """A warning that names the slices that are surely weaker than the rest, and a note on those too small to judge."""
    by, name, images, accuracy, p, verdict = (
        table.columns.index(column) for column in ("by", "slice", "images", "accuracy", "p_value", "verdict")
    )
    weak = [row for row in table.rows if row[verdict] == WEAK]
    small = [row for row in table.rows if row[verdict] == SMALL]
    tested = sum(row[p] is not None for row in table.rows)
    found = []
    if weak:
        first = weak[0]
        more = f", and {len(weak) - 1} more" if len(weak) > 1 else ""
        message = (
            f"Accuracy depends on {first[by]}: {float(str(first[accuracy])):.1%} of {first[images]:,} images of "
            f"{first[name]!r} are right (p = {float(str(first[p])):.2g}, corrected for {tested} slices){more}."
        )
        hint = "look at its images in predictions.csv, and train on more like them"
        rows = tuple(f"{row[by]}: {row[name]}" for row in weak)
        found.append(Finding(code="weak_slice", severity="warning", message=message, rows=rows, hint=hint))
    if small:
        named = ", ".join(repr(row[name]) for row in small[:_NAMED]) + (" ..." if len(small) > _NAMED else "")
        message = f"{len(small)} of {len(table.rows)} slices ({named}) are too small to be judged, and are not ranked."
        hint = f"a slice needs {FEW_IMAGES} images, in {FEW_GROUPS} groups where there are groups"
        rows = tuple(f"{row[by]}: {row[name]}" for row in small[:1000])
        found.append(Finding(code="small_slice", severity="info", message=message, rows=rows, hint=hint))
    return tuple(found)


def _values(table: ImageTable, column: str) -> NDArray[np.object_]:
    if column not in table.frame.columns or column.startswith("_"):
        known = [name for name in table.frame.columns if not name.startswith("_")]
        raise InputError("no such column", where=table.source, received=column, hint=nearest(column, known))
    values = table.frame[column]
    numbers = values.cast(pl.Float64, strict=False) if values.dtype.is_numeric() or values.dtype == pl.String else None
    whole = numbers is not None and numbers.null_count() == values.null_count()
    if numbers is not None and whole and column != "label" and numbers.n_unique() > _MOST_NUMBERS:
        return _binned(numbers)
    if column == "label":
        names = (*table.labels.names, UNNAMED)
        return np.array([names[index] for index in values.to_list()], dtype=object)
    return np.array([UNNAMED if value is None else str(value) for value in values.to_list()], dtype=object)


def _binned(values: pl.Series) -> NDArray[np.object_]:
    numbers = values.fill_null(float("nan")).to_numpy()
    known = np.isfinite(numbers)
    names = np.full(len(numbers), UNNAMED, dtype=object)
    if not known.any():
        return names
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, BINS + 1)))
    bins = np.clip(np.searchsorted(edges, numbers[known], side="right") - 1, 0, max(len(edges) - 2, 0))
    texts = [f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges)] or [f"{edges[0]:.6g}"]
    names[known] = np.array(texts, dtype=object)[bins]
    return names


def _measured(
    sample: Sample, right: Bools, inside: Bools, labels: Ints, answers: Ints, classes: int
) -> tuple[Cell, ...]:
    low, high = share_interval(sample, right & inside, inside)
    macro = averages(class_counts(confusion(labels[inside], answers[inside], classes)))["macro"]
    images, groups = int(inside.sum()), _groups(sample, inside)
    return images, groups, float(right[inside].mean()), low, high, float(macro["f1"])


def _groups(sample: Sample, inside: Bools) -> int | None:
    return None if sample.groups is None else len(np.unique(sample.groups[inside]))


def _enough(sample: Sample, inside: Bools) -> bool:
    groups = _groups(sample, inside)
    return int(inside.sum()) >= FEW_IMAGES and (groups is None or groups >= FEW_GROUPS)


def _verdict(p: float | None, limit: float, row: Sequence[Cell]) -> tuple[Cell, Cell]:
    if p is not None:
        return p, WEAK if p < limit else ALIKE
    enough = int(str(row[2])) >= FEW_IMAGES and (row[3] is None or int(str(row[3])) >= FEW_GROUPS)
    return None, WHOLE if enough else SMALL
