"""Balance: too few, too unequal, none at all, and what the number of test images can tell."""

from __future__ import annotations

import numpy as np
import pytest

from materials import material
from sortal.core.report import Finding
from sortal.core.shares import wilson
from sortal.data.checks.balance import check, half_width_points
from sortal.data.checks.material import Limits, Outcome


def _checked(sizes: list[int], *, split: list[str] | None = None, limits: Limits | None = None) -> Outcome:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    classes = tuple(f"c{number}" for number in range(len(sizes)))
    return check(material(labels, classes=classes, columns=None if split is None else {"split": split}, limits=limits))


def _found(outcome: Outcome, code: str) -> Finding | None:
    return next((found for found in outcome.findings if found.code == code), None)


def test_large_and_even_classes_are_fine() -> None:
    assert _checked([520, 600, 700]).findings == ()


def test_classes_below_the_recommended_number_are_told_with_counts_and_remedies() -> None:
    found = _found(_checked([499, 500, 120]), "few_images")
    assert found is not None
    assert found.severity == "info"
    assert found.rows == ("c2", "c0")
    assert "2 of 3 classes" in found.message
    assert "c2 (120), c0 (499)" in found.message
    assert "381 more images" in str(found.hint)
    assert _found(_checked([90, 80], limits=Limits(wanted=80)), "few_images") is None


def test_rare_and_unequal_classes_are_those_of_the_statistics() -> None:
    outcome = _checked([600, 49, 50])
    rare, uneven = _found(outcome, "rare_class"), _found(outcome, "imbalance")
    assert rare is not None
    assert rare.rows == ("c1",)
    assert uneven is not None
    assert outcome.body["imbalance_ratio"] == pytest.approx(600 / 49)
    assert _found(_checked([60, 49], limits=Limits(rare=40)), "rare_class") is None


def test_declared_classes_without_images_are_missing_and_not_rare() -> None:
    outcome = _checked([600, 0, 510])
    missing = _found(outcome, "class_without_images")
    assert missing is not None
    assert missing.rows == ("c1",)
    assert _found(outcome, "rare_class") is None
    assert outcome.body["missing"] == ["c1"]


def test_the_test_split_decides_how_well_a_recall_is_known() -> None:
    split = ["train"] * 560 + ["test"] * 40 + ["train"] * 590 + ["test"] * 10
    outcome = _checked([600, 600], split=split)
    found = _found(outcome, "uncertain_class")
    assert found is not None
    assert found.severity == "warning"
    assert found.rows == ("c1",)
    assert "the smallest have 10: c1" in found.message
    columns = outcome.tables["classes"].columns
    second = dict(zip(columns, outcome.tables["classes"].rows[1], strict=True))
    low, high = wilson(9, 10)
    assert second["recall ± points"] == round(50 * float(high - low), 1)
    assert (second["train"], second["test"], second["tested by"]) == (590, 10, 10)


def test_without_a_split_the_share_that_would_test_is_told_as_a_note() -> None:
    found = _found(_checked([600, 60]), "uncertain_class")
    assert found is not None
    assert found.severity == "info"
    assert "15%" in found.message
    assert found.rows == ("c1",)


def test_more_images_never_make_a_recall_less_certain() -> None:
    half = half_width_points(np.arange(0, 2000))
    assert (np.diff(half) <= 1e-9).all()
    assert half[0] == 50.0
    assert half[17] < 15.0 < half[16]


def test_nothing_labeled_nothing_to_say() -> None:
    assert check(material([-1, -1], classes=("a",))).findings == ()
