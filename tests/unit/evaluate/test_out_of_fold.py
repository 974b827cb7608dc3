"""Out-of-fold probabilities: honest about copies, empty where nothing is known, sharp where classes are."""

from __future__ import annotations

import numpy as np
import pytest

from materials import blobs
from sortal.evaluate import folds
from sortal.evaluate.folds import out_of_fold

LABELS = np.repeat(np.arange(5), 60)
ALONE = np.arange(300)


def test_rows_are_probabilities_and_right_where_classes_are_apart() -> None:
    found = out_of_fold(blobs(LABELS), LABELS, ALONE, 5)
    assert found.dtype == np.float32
    assert np.allclose(found.sum(1), 1.0, atol=1e-5)
    assert (found.argmax(1) == LABELS).mean() > 0.98


def test_without_structure_nobody_is_sure() -> None:
    features = np.random.default_rng(0).normal(size=(300, 32)).astype(np.float32)
    found = out_of_fold(features, LABELS, ALONE, 5)
    assert (found.argmax(1) == LABELS).mean() < 0.35
    assert np.median(found.max(1)) < 0.4


def test_a_wrong_label_is_not_confirmed_by_its_copies() -> None:
    """Twenty copies of one image carry the wrong label: as one unit they are doubted, apart they teach each other."""
    features, labels, units = blobs(LABELS), LABELS.copy(), ALONE.copy()
    features[0:20] = features[0]
    labels[0:20] = 3
    units[0:20] = 0
    together = out_of_fold(features, labels, units, 5)
    apart = out_of_fold(features, labels, ALONE, 5)
    assert (together[:20].argmax(1) == 0).all()
    assert (together[:20, 3] < apart[:20, 3]).all()


def test_rows_that_cannot_be_judged_are_nan() -> None:
    features, labels = blobs(LABELS), LABELS.copy()
    labels[7] = -1
    features[9, 3] = np.nan
    features[11, :2] = (np.inf, -np.inf)
    given = features.copy()
    found = out_of_fold(features, labels, ALONE, 5)
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == [7, 9, 11]
    assert np.array_equal(features, given, equal_nan=True), "what was handed in is left as it was"


def test_roots_are_taken_where_a_few_strong_features_drown_the_rest() -> None:
    random = np.random.default_rng(2)
    weak = np.abs(blobs(LABELS, width=60, spread=0.9))
    strong = random.pareto(1.0, (300, 20)).astype(np.float32)
    found = out_of_fold(np.concatenate([weak, strong], axis=1), LABELS, ALONE, 5)
    rooted = np.sqrt(np.concatenate([weak, strong], axis=1))
    assert (found.argmax(1) == LABELS).mean() > 0.5
    assert (found.argmax(1) == LABELS).mean() >= (
        out_of_fold(rooted, LABELS, ALONE, 5).argmax(1) == LABELS
    ).mean() - 0.05


@pytest.mark.parametrize(("labels", "units"), [(np.zeros(300, np.int64), ALONE), (LABELS, np.zeros(300, np.int64))])
def test_one_class_or_one_unit_cannot_be_judged(labels: np.ndarray, units: np.ndarray) -> None:
    assert np.isnan(out_of_fold(blobs(LABELS), labels, units, 5)).all()


def test_the_same_seed_gives_the_same_and_wide_features_are_narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    features = blobs(LABELS, width=48)
    first = out_of_fold(features, LABELS, ALONE, 5, seed=4)
    assert np.array_equal(first, out_of_fold(features, LABELS, ALONE, 5, seed=4))
    monkeypatch.setattr(folds, "MOST_FEATURES", 16)
    narrow = out_of_fold(features, LABELS, ALONE, 5, seed=4)
    assert (narrow.argmax(1) == LABELS).mean() > 0.98


def test_wrong_labels_are_found_among_right_ones() -> None:
    random = np.random.default_rng(1)
    labels = LABELS.copy()
    wrong = random.permutation(300)[:15]
    labels[wrong] = (labels[wrong] + random.integers(1, 5, 15)) % 5
    found = out_of_fold(blobs(LABELS), labels, ALONE, 5)
    doubted = np.argsort(found[np.arange(300), labels])[:15]
    assert set(doubted) == set(wrong)
