"""Label errors: planted ones are listed with what they show, honest sets have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from materials import blobs, material
from sortal.data.checks.labels import check, suspects
from sortal.data.checks.material import Limits, Material
from sortal.data.definitions import ClassDefinition, Definitions, save_definitions
from sortal.evaluate.folds import out_of_fold

CLASSES = ("green apple", "red apple", "leek", "onion", "milk")
PARENTS = ("apple", "apple", "vegetable", "vegetable", "carton")
TRUE = np.repeat(np.arange(5), 60)
WRONG = {3: 1, 70: 0, 130: 3, 200: 2, 250: 0}
"""Row to wrong label."""


def _labels() -> np.ndarray:
    labels = TRUE.copy()
    labels[list(WRONG)] = list(WRONG.values())
    return labels


def _material(
    labels: np.ndarray, features: np.ndarray, root: Path | None = None, limits: Limits | None = None
) -> Material:
    probabilities = out_of_fold(features, labels, np.arange(len(labels)), 5)
    return material(
        labels, classes=CLASSES, parents=PARENTS, probabilities=probabilities, root=root, limits=limits or Limits()
    )


def test_planted_errors_are_listed_with_what_they_show_and_how_to_mend_them() -> None:
    outcome = check(_material(_labels(), blobs(TRUE)))
    listed = outcome.issues
    assert set(listed["name"]) == {f"images/{row:05d}.jpg" for row in WRONG}
    assert set(listed["code"]) == {"label_error"}
    assert listed["score"].is_sorted(descending=True)
    assert set(listed["do"]) == {"relabel"}
    suggested = dict(zip(listed["name"], listed["to"], strict=True))
    assert suggested == {f"images/{row:05d}.jpg": CLASSES[TRUE[row]] for row in WRONG}
    first = outcome.tables["label_errors"].rows[0]
    assert first[0] == listed["name"][0]
    assert first[3] == pytest.approx(listed["score"][0], abs=1e-4)
    (found,) = outcome.findings
    assert found.message.startswith("5 of 300 labels look wrong: ")
    assert "4 of the suggestions stay inside the coarse class" in found.message
    assert outcome.body["wrong_low"] <= 5 / 300 <= outcome.body["wrong_high"]


@pytest.mark.parametrize("seed", range(5))
def test_right_labels_are_left_alone(seed: int) -> None:
    outcome = check(_material(TRUE, blobs(TRUE, seed=seed)))
    assert outcome.findings == ()
    assert outcome.issues.height == 0


def test_without_probabilities_nothing_is_said() -> None:
    outcome = check(material(_labels(), classes=CLASSES))
    assert outcome.findings == ()
    assert outcome.tables == {}


def test_a_higher_limit_lists_fewer() -> None:
    given = _material(_labels(), blobs(TRUE, spread=3.0))
    loose = check(given).issues
    strict = check(_material(_labels(), blobs(TRUE, spread=3.0), limits=Limits(label_error=0.7))).issues
    assert 0 < strict.height < loose.height
    assert loose["name"].head(strict.height).to_list() == strict["name"].to_list()


def test_classes_that_look_the_same_are_candidates_for_merging() -> None:
    looks = np.where(TRUE == 3, 2, TRUE)
    outcome = check(_material(TRUE, blobs(looks, spread=0.8)))
    found = next(found for found in outcome.findings if found.code == "mixed_classes")
    assert found.message.startswith("1 pairs of classes are mixed up in both directions: leek and onion (")
    pair = outcome.tables["mixed_classes"].rows[0]
    assert pair[:2] == ("leek", "onion")
    assert pair[5] is True


def test_known_confusions_are_mentioned(tmp_path: Path) -> None:
    confused = ClassDefinition(not_to_be_confused_with=("red apple",))
    save_definitions(Definitions(classes={"green apple": confused}), tmp_path / "classes.yaml")
    outcome = check(_material(_labels(), blobs(TRUE), root=tmp_path))
    words = dict(zip(outcome.issues["name"], outcome.issues["value"], strict=True))
    assert words["images/00003.jpg"] == "labeled red apple, looks like green apple (known to be confused)"
    assert words["images/00130.jpg"] == "labeled onion, looks like leek"


def test_definitions_of_unknown_classes_are_a_finding_and_no_end(tmp_path: Path) -> None:
    save_definitions(Definitions(classes={"leak": ClassDefinition()}), tmp_path / "classes.yaml")
    outcome = check(_material(_labels(), blobs(TRUE), root=tmp_path))
    found = next(found for found in outcome.findings if found.code == "definitions_invalid")
    assert "leak" in found.message
    assert "leek" in str(found.hint)
    assert outcome.issues.height == 5


def test_classes_of_two_units_and_unlabeled_rows_are_not_judged() -> None:
    labels = np.array([0] * 10 + [1] * 6 + [-1])
    units = np.array([*range(10), 10, 10, 10, 11, 11, 11, 12])
    probabilities = np.tile(np.array([[0.05, 0.95]], np.float32), (17, 1))
    probabilities[11:13] = (0.95, 0.05)
    found = suspects(probabilities, labels, units)
    assert found.judged == 10
    assert np.allclose(found.confidence[:10], 0.95 / (0.95 + 9 * 0.05))
    assert (found.confidence[10:] == 0).all()
    assert (found.suggested[10:] == -1).all()


def test_hard_classes_are_allowed_to_be_unsure() -> None:
    """Confident learning: a class that is at 0.4 on its own images speaks at 0.4, one at 0.9 only at 0.9."""
    labels = np.array([0] * 20 + [1] * 20)
    probabilities = np.array([[0.9, 0.1]] * 20 + [[0.6, 0.4]] * 20, np.float32)
    found = suspects(probabilities, labels, np.arange(40))
    assert not found.wrong.any()
    probabilities[20] = (0.95, 0.05)
    assert np.flatnonzero(suspects(probabilities, labels, np.arange(40)).wrong).tolist() == [20]
