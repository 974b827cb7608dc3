"""Accuracy by slice: counts, order, bins of numbers, two columns at once, and when a slice is called weak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sortal.core.errors import InputError
from sortal.core.report import Table
from sortal.data.open import images
from sortal.data.table import ImageTable
from sortal.evaluate.measure.grouped import Sample, grouped
from sortal.evaluate.measure.intervals import wilson
from sortal.evaluate.measure.slices import Slicing, slices_findings, slices_table, slicings


def _table(tmp_path: Path, columns: dict[str, list[object]]) -> ImageTable:
    count = len(next(iter(columns.values())))
    for number in range(count):
        (tmp_path / f"{number}.png").touch()
    frame = {"path": [f"{number}.png" for number in range(count)], "label": ["x", "y"] * (count // 2)}
    pl.DataFrame(frame | columns).write_csv(tmp_path / "list.csv")
    return images(tmp_path / "list.csv")


def _measured(slices: list[str], right: np.ndarray, groups: np.ndarray | None = None) -> Table:
    labels = np.zeros(len(right), np.int64)
    sample = Sample(size=len(right)) if groups is None else grouped(groups)
    one = Slicing(by="camera", names=np.array(slices, dtype=object))
    return slices_table([one], sample, labels, np.where(right, 0, 1), classes=2)


def _column(table: Table, name: str) -> list[object]:
    return [row[table.columns.index(name)] for row in table.rows]


def test_each_slice_apart_the_worst_first_and_small_ones_last() -> None:
    right = np.ones(104, bool)
    right[[0, 1, 2, 60, 101, 102]] = False
    table = _measured(["b"] * 50 + ["a"] * 50 + ["c"] * 4, right)
    assert _column(table, "slice") == ["b", "a", "c"]
    assert _column(table, "images") == [50, 50, 4]
    assert _column(table, "accuracy") == [47 / 50, 49 / 50, 2 / 4]
    low, high = wilson(47, 50, 0.95)
    assert (table.rows[0][5], table.rows[0][6]) == (float(low), float(high))
    assert _column(table, "verdict") == ["not distinguishable", "not distinguishable", "too small"]
    assert [finding.code for finding in slices_findings(table)] == ["small_slice"]


def test_a_slice_that_is_surely_weaker_is_named() -> None:
    right = np.ones(400, bool)
    right[:25] = False
    table = _measured(["left"] * 100 + ["right"] * 300, right)
    [found] = slices_findings(table)
    assert (found.code, found.severity, found.rows) == ("weak_slice", "warning", ("camera: left",))
    assert "75.0% of 100 images of 'left'" in found.message


def test_looking_at_many_slices_is_corrected_for() -> None:
    """One slice of 40 has 4 of 30 wrong where all others have 1: weak if it were asked about alone."""
    right = np.ones((40, 30), bool)
    right[:, 0] = False
    right[7, :4] = False
    names = [f"s{number:02d}" for number in range(40) for _ in range(30)]
    alone = _measured(["s07" if name == "s07" else "rest" for name in names], right.ravel())
    assert alone.rows[0][alone.columns.index("verdict")] == "weaker than the rest"
    every = _measured(names, right.ravel())
    assert set(_column(every, "verdict")) == {"not distinguishable"}


def test_errors_of_one_group_do_not_make_a_slice_weak() -> None:
    right = np.ones(800, bool)
    right[:40] = False
    names = ["left"] * 400 + ["right"] * 400
    assert _measured(names, right).rows[0][9] == "weaker than the rest"
    table = _measured(names, right, np.arange(800) // 40)
    assert _column(table, "verdict") == ["not distinguishable", "not distinguishable"]
    assert _column(table, "groups") == [10, 10]
    few = _measured(names, right, np.arange(800) // 100)
    assert _column(few, "verdict") == ["too small", "too small"]


def test_numbers_are_cut_into_quarters_with_their_bounds(tmp_path: Path) -> None:
    table = _table(tmp_path, {"width": list(range(0, 200, 10)), "bin": [1, 2] * 10})
    one, two, both = slicings(table, ["width", "bin"])
    assert [(one.names == name).sum() for name in dict.fromkeys(one.names)] == [5, 5, 5, 5]
    assert one.names[0] == "0 to 47.5"
    assert set(two.names) == {"1", "2"}
    assert both.by == "width × bin"
    assert both.names[0] == "0 to 47.5 × 1"


def test_empty_cells_are_a_slice_and_unknown_columns_are_refused(tmp_path: Path) -> None:
    table = _table(tmp_path, {"camera": ["1", None]})
    [found] = slicings(table, ["camera"])
    assert found.names.tolist() == ["1", "(none)"]
    with pytest.raises(InputError, match="camera"):
        slicings(table, ["camra"])
    assert slicings(table, ["label"])[0].names.tolist() == ["x", "y"]
