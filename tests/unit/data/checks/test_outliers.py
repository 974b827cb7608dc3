"""Outliers: images from elsewhere are found, a class that is only loose is not."""

from __future__ import annotations

import numpy as np
import pytest

from materials import blobs, material
from sortal.data.checks import outliers
from sortal.data.checks.outliers import check, strangeness

CLASSES = ("a", "b", "c", "d")
LABELS = np.repeat(np.arange(4), 100)


def _strangers(features: np.ndarray, rows: list[int], seed: int = 9) -> np.ndarray:
    changed = features.copy()
    odd = np.random.default_rng(seed).normal(size=(len(rows), features.shape[1]))
    changed[rows] = (odd / np.linalg.norm(odd, axis=1, keepdims=True)).astype(np.float32)
    return changed


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [16, 64, 256])
def test_a_set_without_strangers_has_none(seed: int, width: int) -> None:
    assert check(material(LABELS, classes=CLASSES, features=blobs(LABELS, width=width, seed=seed))).findings == ()


@pytest.mark.parametrize("seed", range(3))
def test_strangers_are_found_and_nobody_else(seed: int) -> None:
    rows = [3, 120, 250, 399]
    features = _strangers(blobs(LABELS, width=64, seed=seed), rows)
    outcome = check(material(LABELS, classes=CLASSES, features=features))
    assert sorted(outcome.issues["name"]) == [f"images/{row:05d}.jpg" for row in rows]
    assert outcome.issues["score"].is_sorted(descending=True)
    assert outcome.issues["score"].is_between(0.5, 1.0).all()
    assert outcome.findings[0].message.startswith("4 images are unlike all others")
    assert {row[0]: row[1] for row in outcome.tables["outliers"].rows} == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_a_loose_class_is_not_blamed() -> None:
    features = blobs(LABELS, width=64, spread=0.15)
    loose = blobs(LABELS, width=64, spread=0.6)
    features[LABELS == 2] = loose[LABELS == 2]
    assert check(material(LABELS, classes=CLASSES, features=features)).findings == ()


def test_rows_without_features_are_left_out() -> None:
    features = _strangers(blobs(LABELS, width=64), [7])
    features[8] = np.nan
    outcome = check(material(LABELS, classes=CLASSES, features=features))
    assert outcome.issues["name"].to_list() == ["images/00007.jpg"]


def test_without_features_or_with_few_images_nothing_is_said() -> None:
    assert check(material(LABELS, classes=CLASSES)).findings == ()
    assert check(material(LABELS[:9], classes=CLASSES, features=blobs(LABELS[:9]))).findings == ()


def test_a_sample_of_references_finds_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "REFERENCES", 150)
    features = _strangers(blobs(LABELS, width=64), [3, 120])
    assert set(np.argsort(-strangeness(features))[:2]) == {3, 120}
