"""Prediction sets cover as often as they promise, and are those of the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sortal.core.conformal import conformal_quantile, conformal_scores, read_conformal
from sortal.core.errors import BundleError, InputError
from sortal.evaluate.trust.conformal import judge_sets, split_coverage


def world(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities (count, 6) from which the labels are truly drawn; the first class is much harder."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, count)
    logits = random.normal(size=(count, 6))
    logits[np.arange(count), labels] += np.where(labels == 0, 0.5, 3.0)
    chances = np.exp(logits)
    return (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize(("count", "level", "place"), [(9, 0.9, 9), (99, 0.9, 90), (100, 0.9, 91), (19, 0.95, 19)])
def test_the_quantile_is_the_one_with_the_finite_sample_correction(count: int, level: float, place: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(scores, level) == place == math.ceil((count + 1) * level - 1e-9)


def test_too_few_images_rule_nothing_out() -> None:
    assert conformal_quantile(np.zeros(8), 0.9) == math.inf
    chances, labels = world(8, 0)
    assert conformal_scores(chances, labels).sets(chances, 0.9).all()


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_sets_cover_as_often_as_asked_for(level: float) -> None:
    chances, labels = world(2000, 1)
    found = split_coverage(chances, labels, level=level, repeats=100)
    covered = [quality.coverage for quality in found]
    assert np.mean(covered) == pytest.approx(level, abs=0.01)


def test_by_class_every_class_is_covered() -> None:
    chances, labels = world(6000, 2)
    plain, own = (
        np.mean([q.by_class for q in split_coverage(chances, labels, level=0.9, by_class=by_class)], axis=0)
        for by_class in (False, True)
    )
    assert plain[0] < 0.8
    np.testing.assert_allclose(own, 0.9, atol=0.02)


def test_a_set_holds_every_class_that_is_likelier_than_one_in_it() -> None:
    chances, labels = world(500, 3)
    sets = conformal_scores(chances, labels).sets(chances, 0.9)
    outside = np.where(sets, -np.inf, chances).max(axis=1)
    inside = np.where(sets, chances, np.inf).min(axis=1)
    assert (inside > outside).all()


def test_unreadable_rows_have_empty_sets() -> None:
    chances, labels = world(100, 4)
    rows = np.full((1, 6), np.nan, np.float32)
    assert not conformal_scores(chances, labels).sets(rows, 0.9).any()


def test_sets_are_judged_by_hand() -> None:
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
    quality = judge_sets(sets, np.array([0, 1, 1, 0]), level=0.9)
    assert (quality.coverage, quality.mean_size, quality.empty, quality.single) == (0.5, 1.0, 0.25, 0.5)
    np.testing.assert_allclose(quality.by_class, [0.5, 0.5, np.nan])
    assert quality.low < 0.5 < quality.high


def test_wrong_levels_and_scores_of_other_classes_are_refused() -> None:
    chances, labels = world(50, 5)
    scores = conformal_scores(chances, labels)
    with pytest.raises(InputError):
        scores.sets(chances, 1.0)
    with pytest.raises(BundleError):
        read_conformal({"scores": scores.scores, "labels": scores.labels}, classes=3)
    assert read_conformal({}, classes=3) is None
