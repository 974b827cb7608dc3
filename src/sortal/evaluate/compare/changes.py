"""What got better and what got worse: by class, by slice and image by image.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Cell, Finding, Table
from sortal.evaluate.compare.bootstrap import Answers
from sortal.evaluate.compare.paired import paired_test
from sortal.evaluate.measure.weaker import holm

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LISTED = 200
"""Changed images of either kind that a report lists; all of them are in changes.csv."""
_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two classifiers' answers to the same N labelled images, over the same classes."""

    labels: Ints
    first: Answers
    second: Answers
    classes: tuple[str, ...]
    images: tuple[str, ...]
    """What the data call each image."""
    groups: Ints | None = None
    """(N,) what belongs together."""

    @property
    def right(self) -> tuple[Bools, Bools]:
        """(N,) where each of the two is right."""
        return self.first.index == self.labels, self.second.index == self.labels

    @property
    def better(self) -> Ints:
        """Images that the second alone got right, those first that it is surest about."""
        before, after = self.right
        rows = np.flatnonzero(after & ~before)
        return rows[np.argsort(-self.second.probability[rows], kind="stable")]

    @property
    def worse(self) -> Ints:
        """Images that the first alone got right, those first whose new, wrong answer is surest."""
        before, after = self.right
        rows = np.flatnonzero(before & ~after)
        return rows[np.argsort(-self.second.probability[rows], kind="stable")]


def by_class(pair: Pair) -> Table:
    """One row a class that has images: share right before and after, images gained and lost, p and p after Holm.

    Sorted by what changed most. A class is the true class of the images.
    """
    return _apart(pair, "class", [pair.classes[label] for label in pair.labels.tolist()])


def by_slice(pair: Pair, column: str, values: Sequence[str]) -> Table:
    """As `by_class` for the values (N,) of any column, such as the camera."""
    return _apart(pair, column, values)


def changed_images(pair: Pair) -> Table:
    """One row an image that only one of the two got right: how it changed, its label and both answers."""
    return Table(columns=_COLUMNS, rows=_rows(pair, pair.worse[:LISTED], pair.better[:LISTED]))


def all_changes(pair: Pair) -> Table:
    """Every image on which the answers differ, also where both are wrong."""
    other = np.flatnonzero((pair.first.index != pair.second.index) & ~pair.right[0] & ~pair.right[1])
    return Table(columns=_COLUMNS, rows=_rows(pair, pair.worse, pair.better, other))


def table_csv(table: Table) -> bytes:
    """A table as the bytes of a CSV file."""
    import polars

    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    frame = polars.DataFrame({name: list(cells) for name, cells in zip(table.columns, columns, strict=True)})
    return frame.write_csv().encode()


def change_findings(table: Table, names: tuple[str, str], confidence: float) -> tuple[Finding, ...]:
    """A warning for classes, or slices, that got worse beyond chance, an info for those that got better."""
    what = table.columns[0]
    sure = [row for row in table.rows if float(str(row[-1])) <= 1 - confidence]
    found = []
    for severity, verb, sign in (("warning", "worse", -1), ("info", "better", 1)):
        members = [row for row in sure if sign * (int(str(row[4])) - int(str(row[5]))) > 0]
        if members:
            listed = ", ".join(_change(row) for row in members[:_NAMED])
            more = f" and {len(members) - _NAMED} more" if len(members) > _NAMED else ""
            message = f"{names[1]} is {verb} than {names[0]} on {what} {listed}{more}."
            code = f"{what}_{verb}" if what == "class" else f"slice_{verb}"
            rows = tuple(str(row[0]) for row in members)
            found.append(Finding.model_validate({"code": code, "severity": severity, "message": message, "rows": rows}))
    return tuple(found)


_COLUMNS = ("change", "image", "label", "first", "second", "first_probability", "second_probability")


def _rows(pair: Pair, worse: Ints, better: Ints, other: Ints | None = None) -> tuple[tuple[Cell, ...], ...]:
    kinds = [("worse", worse), ("better", better), ("differently wrong", np.zeros(0, int) if other is None else other)]
    return tuple(
        (
            kind,
            pair.images[row],
            pair.classes[pair.labels[row]],
            _name(pair, pair.first.index[row]),
            _name(pair, pair.second.index[row]),
            round(float(pair.first.probability[row]), 4),
            round(float(pair.second.probability[row]), 4),
        )
        for kind, rows in kinds
        for row in rows.tolist()
    )


def _name(pair: Pair, index: int) -> str | None:
    return pair.classes[index] if index >= 0 else None


def _apart(pair: Pair, what: str, values: Sequence[str]) -> Table:
    before, after = pair.right
    keys = np.array(values, dtype=object)
    names = sorted(set(values))
    tests = []
    for name in names:
        mine = keys == name
        tests.append(paired_test(before[mine], after[mine], None if pair.groups is None else pair.groups[mine]))
    corrected = holm([test.p for test in tests])
    rows: list[tuple[Cell, ...]] = []
    for name, test, p in zip(names, tests, corrected, strict=True):
        mine = keys == name
        shares = (float(before[mine].mean()), float(after[mine].mean()))
        rows.append((name, test.n, *shares, test.better, test.worse, test.p, p))
    columns = (what, "images", "first_accuracy", "second_accuracy", "better", "worse", "p", "p_holm")
    rows.sort(key=lambda row: (float(str(row[7])), -abs(int(str(row[4])) - int(str(row[5]))), str(row[0])))
    return Table(columns=columns, rows=tuple(rows))


def _change(row: tuple[Cell, ...]) -> str:
    return f"“{row[0]}” ({float(str(row[2])):.0%} to {float(str(row[3])):.0%} of {row[1]} right)"
