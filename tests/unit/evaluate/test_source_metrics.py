"""Metrics by camera or line: counts, order, and when a difference is worth a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sortal.core.errors import InputError
from sortal.data.open import images
from sortal.evaluate.intervals import wilson
from sortal.evaluate.sources import source_values, sources_findings, sources_table


def test_each_source_apart_the_worst_first() -> None:
    sources = ["b"] * 4 + ["a"] * 4 + ["c"]
    labels = np.array([0, 1, 0, -1, 0, 1, 1, 0, 1])
    answers = np.array([0, 1, 1, 0, 0, 1, 1, 0, -1])
    table = sources_table(sources, labels, answers, classes=2, confidence=0.95)
    assert [row[:3] for row in table.rows] == [("b", 3, 2 / 3), ("a", 4, 1.0)], "unlabeled and unread ones are out"
    low, high = wilson(2, 3, 0.95)
    assert table.rows[0][3:5] == (float(low), float(high))
    assert table.rows[0][5] == pytest.approx(2 / 3), "F1 of both classes"


@pytest.mark.parametrize(("count", "warnings"), [(5, 0), (200, 1)])
def test_only_sure_differences_are_a_warning(count: int, warnings: int) -> None:
    labels = np.zeros(2 * count, np.int64)
    answers = labels.copy()
    answers[: count // 4] = 1
    table = sources_table(["x"] * count + ["y"] * count, labels, answers, classes=2, confidence=0.95)
    found = sources_findings(table, "camera")
    assert len(found) == warnings
    assert all("camera: 75.0% on x, 100.0% on y" in one.message for one in found)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    path = tmp_path / "list.csv"
    pl.DataFrame({"path": ["a.png", "b.png"], "label": ["x", "y"], "camera": ["1", None]}).write_csv(path)
    table = images(path)
    assert source_values(table, "camera") == ["1", "(none)"]
    with pytest.raises(InputError, match="camera"):
        source_values(table, "camra")
