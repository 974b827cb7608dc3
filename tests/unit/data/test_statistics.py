"""What is found about the sizes of classes."""

from __future__ import annotations

import polars as pl
import pytest

from sortal.core.labels import LabelSet
from sortal.core.report import Finding
from sortal.data.statistics import statistics
from sortal.data.table import build_table


def _imbalance(sizes: list[int], *, split: str | None = None) -> Finding | None:
    """The finding for classes of these sizes, with `split` on all rows and ten more test images of each class."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    splits = [split] * len(labels)
    if split is not None:
        labels += [label for label in range(len(sizes)) for _ in range(10)]
        splits += ["test"] * (10 * len(sizes))
    frame = pl.DataFrame(
        {"uri": [f"{row}.jpg" for row in range(len(labels))], "label": labels, "split": splits},
        schema_overrides={"split": pl.String},
    )
    names = tuple(f"c{label}" for label in range(len(sizes)))
    report = statistics(build_table(frame, labels=LabelSet(names=names), source="memory", root=None))
    return next((found for found in report.findings if found.code == "imbalance"), None)


@pytest.mark.parametrize("split", [None, "train"])
def test_very_unequal_classes_are_found_and_the_remedy_named(split: str | None) -> None:
    found = _imbalance([100, 40, 2], split=split)
    assert found is not None
    assert found.severity == "warning"
    assert "50 times" in found.message
    assert "loss.imbalance=auto" in str(found.hint)


def test_nearly_equal_classes_and_single_ones_are_not() -> None:
    assert _imbalance([90, 40, 10]) is None
    assert _imbalance([50]) is None
