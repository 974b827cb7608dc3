"""Drift: planted differences between splits and sources are found, draws from one world are not."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from materials import blobs, material
from sortal.data.checks.drift import check
from sortal.data.checks.material import Material

CLASSES = ("a", "b", "c")
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 600)
SPLITS = np.array(["train"] * 400 + ["val"] * 100 + ["test"] * 100)
SHARPNESS = RANDOM.normal(0.5, 0.1, 600)


def _codes(given: Material) -> list[str]:
    return [found.code for found in check(given).findings]


@pytest.mark.parametrize("seed", range(5))
def test_splits_of_one_world_do_not_drift(seed: int) -> None:
    given = material(LABELS, classes=CLASSES, columns={"split": SPLITS}, features=blobs(LABELS, seed=seed), seed=seed)
    outcome = check(given)
    assert outcome.findings == ()
    assert len(outcome.tables["drift"].rows) == outcome.body["tests"] == 2 * 13


def test_another_sharpness_in_test_is_found_and_named() -> None:
    sharp = np.where(SPLITS == "test", SHARPNESS - 0.15, SHARPNESS)
    given = material(LABELS, classes=CLASSES, columns={"split": SPLITS}, survey={"sharpness": sharp})
    (found,) = check(given).findings
    assert found.severity == "warning"
    assert found.message.startswith("test (100 images) differs from train: sharpness (distance 0.")


def test_a_certain_but_small_difference_is_no_finding() -> None:
    labels, splits = np.tile(LABELS, 40), np.tile(SPLITS, 40)
    sharp = RANDOM.normal(0.5, 0.1, len(labels)) + np.where(splits == "val", 0.02, 0.0)
    outcome = check(material(labels, classes=CLASSES, columns={"split": splits}, survey={"sharpness": sharp}))
    row = next(row for row in outcome.tables["drift"].rows if row[:3] == ("val", "train", "sharpness"))
    assert row[4] < 1e-6
    assert outcome.findings == ()


def test_other_class_shares_are_found() -> None:
    labels = np.where(SPLITS == "val", RANDOM.choice(3, 600, p=[0.8, 0.1, 0.1]), LABELS)
    (found,) = check(material(labels, classes=CLASSES, columns={"split": SPLITS})).findings
    assert "val (100 images) differs from train: class shares" in found.message


def test_features_that_tell_the_splits_apart_are_found() -> None:
    features = blobs(LABELS)
    features[SPLITS == "test", 0] += 0.25
    (found,) = check(material(LABELS, classes=CLASSES, columns={"split": SPLITS}, features=features)).findings
    assert "features (told apart, AUC 0.9" in found.message or "AUC 1.0" in found.message


def test_copies_across_splits_do_not_blur_the_answer() -> None:
    """Identical images share a fold: a model cannot know the split of a copy, so their presence is no drift."""
    half = np.random.default_rng(3).normal(size=(300, 40)).astype(np.float32)
    columns = {"split": ["train"] * 300 + ["test"] * 300, "digest": [f"{row % 300:064x}" for row in range(600)]}
    given = material(LABELS, classes=CLASSES, columns=columns, features=np.concatenate([half, half]))
    rows = {row[2]: row for row in check(given).tables["drift"].rows}
    assert rows["features"][3] == pytest.approx(0.5, abs=0.05)


def test_a_source_and_a_camera_that_stand_out_are_found() -> None:
    source = np.where(np.arange(600) % 3 == 0, "line 2", "line 1")
    camera = np.where(np.arange(600) % 3 == 0, "Acme X", None)
    bright = np.where(source == "line 2", SHARPNESS + 0.3, SHARPNESS)
    outcome = check(
        material(LABELS, classes=CLASSES, columns={"source": source}, survey={"brightness": bright, "camera": camera})
    )
    (found,) = outcome.findings
    assert found.message.startswith("source line 1 (400 images) differs from the others: brightness")


def test_each_of_three_sources_is_compared_with_the_others() -> None:
    source = np.array(["x", "y", "z"])[np.arange(600) % 3]
    outcome = check(material(LABELS, classes=CLASSES, columns={"source": source}))
    assert {row[0] for row in outcome.tables["drift"].rows} == {"source x", "source y", "source z"}
    assert outcome.findings == ()


def test_synthetic_images_may_only_train() -> None:
    source = np.where(np.arange(600) % 50 == 0, "synthetic", "line")
    outcome = check(material(LABELS, classes=CLASSES, columns={"split": SPLITS, "source": source}))
    (found,) = outcome.findings
    assert (found.code, found.severity) == ("synthetic_in_test", "error")
    assert found.rows == tuple(f"images/{row:05d}.jpg" for row in (400, 450, 500, 550))
    assert outcome.issues["name"].to_list() == list(found.rows)


def test_few_images_are_not_judged() -> None:
    outcome = check(material(LABELS[:40], classes=CLASSES, columns={"split": ["train"] * 20 + ["test"] * 20}))
    assert outcome.tables == {}
    assert outcome.findings == ()


def test_nulls_and_dates_do_no_harm() -> None:
    given = material(
        LABELS,
        classes=CLASSES,
        columns={"split": SPLITS},
        survey={"sharpness": [None] * 600, "taken": [datetime(2026, 1, 1)] * 600},
    )
    assert _codes(given) == []
