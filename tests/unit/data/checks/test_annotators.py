"""Annotators: double readings agree or not, roles are those required, item codes are valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from materials import material
from sortal.data.checks.annotators import check, check_roles, readings
from sortal.data.checks.material import Outcome
from sortal.data.definitions import Definitions, save_definitions

CLASSES = ("normal", "mass", "nodule")
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 120)
NAMES = [CLASSES[label] for label in LABELS]


def _checked(**columns: Any) -> Outcome:
    return check(material(LABELS, classes=CLASSES, columns=columns))


def _codes(outcome: Outcome) -> list[str]:
    return [found.code for found in outcome.findings]


def test_a_set_without_such_columns_has_no_finding() -> None:
    outcome = _checked()
    assert outcome.findings == ()
    assert outcome.tables == {}
    assert outcome.issues.height == 0


def test_two_readers_in_columns_who_differ_in_three_images() -> None:
    other = list(NAMES)
    for row in (5, 50, 100):
        other[row] = CLASSES[(LABELS[row] + 1) % 3]
    outcome = _checked(reader_1=NAMES, reader_2=other)
    assert _codes(outcome) == ["readers_agree"]
    assert outcome.findings[0].message.startswith(
        "120 images were read more than once: 98% of readings agree; kappa 0.9"
    )
    assert outcome.issues["name"].to_list() == [f"images/{row:05d}.jpg" for row in (5, 50, 100)]
    assert outcome.issues["value"][0] == f"1: {NAMES[5]}, 2: {other[5]}"
    assert outcome.tables["readers"].rows[0][:3] == ("1 and 2", 120, 0.975)


def test_readers_who_guess_are_a_warning() -> None:
    guessed = [CLASSES[label] for label in RANDOM.integers(0, 3, 120)]
    outcome = _checked(label_by_mia=NAMES, label_by_li=guessed)
    assert _codes(outcome) == ["readers_disagree"]
    assert abs(outcome.body["kappa"]) < 0.25


def test_three_readers_are_judged_together_and_in_pairs() -> None:
    outcome = _checked(rater_a=NAMES, rater_b=NAMES, rater_c=[None] * 60 + NAMES[60:])
    rows = outcome.tables["readers"].rows
    assert [row[0] for row in rows] == ["all readers", "a and b", "a and c", "b and c"]
    assert [row[1] for row in rows] == [120, 120, 60, 60]
    assert all(row[3] == 1.0 for row in rows)


def test_the_same_content_labeled_by_two_people_is_read_twice() -> None:
    labels = np.concatenate([LABELS[:60], LABELS[:60]])
    labels[60] = (labels[0] + 1) % 3
    digest = [f"{row % 60:064x}" for row in range(120)]
    given = material(labels, classes=CLASSES, columns={"annotator": ["mia"] * 60 + ["li"] * 60, "digest": digest})
    assert readings(given.table).height == 120
    outcome = check(given)
    assert outcome.body["read_twice"] == 60
    assert outcome.issues["name"].to_list() == ["images/00000.jpg"]
    assert outcome.tables["annotators"].rows == (("li", 60, 3), ("mia", 60, 3))


def test_one_person_who_read_a_copy_twice_agrees_with_nobody() -> None:
    digest = [f"{row % 60:064x}" for row in range(120)]
    assert _codes(_checked(annotator=["mia"] * 120, digest=digest)) == []


def test_weak_agreement_columns_are_listed() -> None:
    outcome = _checked(agreement=[0.5] + [1.0] * 118 + [None])
    assert _codes(outcome) == ["low_agreement"]
    assert outcome.findings[0].rows == ("images/00000.jpg",)


def test_only_experts_may_label_where_the_data_say_so(tmp_path: Path) -> None:
    role = ["Expert"] * 118 + ["student", None]
    given = material(LABELS, classes=CLASSES, columns={"role": role}, root=tmp_path)
    assert _codes(check(given)) == []
    save_definitions(Definitions(required_role="expert"), tmp_path / "classes.yaml")
    outcome = check(given)
    assert _codes(outcome) == ["wrong_role"]
    assert outcome.findings[0].severity == "error"
    assert outcome.issues["name"].to_list() == ["images/00118.jpg", "images/00119.jpg"]
    assert outcome.issues["value"].to_list() == ["student", "no role given"]
    assert check_roles(material(LABELS, classes=CLASSES).table, "expert").height == 120


def test_times_that_are_none_are_told() -> None:
    times = ["2026-03-01T10:00:00"] * 118 + ["yesterday", None]
    outcome = _checked(labeled_at=times)
    assert _codes(outcome) == ["labeled_at_odd"]
    assert outcome.findings[0].rows == ("images/00118.jpg",)


def test_a_wrong_check_digit_is_found_in_any_form() -> None:
    codes = ["09506000134352"] * 118 + ["09506000134353", None]
    for column in ("GTIN", "barcode"):
        outcome = _checked(**{column: codes})
        assert _codes(outcome) == ["invalid_code"]
        assert outcome.issues["name"].to_list() == ["images/00118.jpg"]
        assert "it should be 2" in outcome.issues["value"][0]
    codes = ["(01)09506000134352(21)7"] * 119 + ["(01)09506000134353(21)7"]
    assert _checked(gs1=codes).issues["name"].to_list() == ["images/00119.jpg"]


def test_numbers_that_lost_their_zeros_are_article_numbers_still() -> None:
    assert _codes(_checked(gtin=[9506000134352] * 120)) == []
    assert _codes(_checked(gtin=[9506000134352] * 119 + [9506000134353])) == ["invalid_code"]


@pytest.mark.parametrize("codes", [[f"{20260101 + row}" for row in range(120)], [f"lot-{row}" for row in range(120)]])
def test_identifiers_of_ones_own_are_left_alone(codes: list[str]) -> None:
    assert _codes(_checked(identifier=codes)) == []
    assert _codes(_checked(gtin=codes)) == ["invalid_code"]
