"""Held-out ridge scores against refits by scikit-learn, and naive Bayes against its definition."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

from sortal.data.held_out import collect, held_out_scores, scores_of_fold
from sortal.data.naive import BINS, binned, held_out_answers

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 90)
FEATURES = (RANDOM.normal(size=(90, 12)) + 0.8 * np.eye(12)[LABELS] + 3.0).astype(np.float32)
dealt = RANDOM.integers(0, 4, 90)


def _penalty(rows: np.ndarray, strength: float, weights: np.ndarray) -> float:
    x, w = FEATURES[rows].astype(np.float64), weights[rows]
    mean = (w[:, None] * x).sum(0) / w.sum()
    return strength * float((w[:, None] * np.square(x - mean)).sum()) / 12


@pytest.mark.parametrize("strength", [0.05, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_a_refit_without_the_fold(strength: float, *, weighted: bool) -> None:
    weights = RANDOM.uniform(0.1, 1.0, 90).astype(np.float32) if weighted else np.ones(90, np.float32)
    sums = collect(FEATURES, LABELS, dealt, 3, weights=weights)
    for fold in range(4):
        held, seen = dealt == fold, dealt != fold
        reference = Ridge(alpha=_penalty(seen, strength, weights.astype(np.float64)))
        reference.fit(FEATURES[seen], np.eye(3)[LABELS[seen]], sample_weight=weights[seen])
        found = scores_of_fold(sums, FEATURES[held], fold, strength)
        assert np.allclose(found, reference.predict(FEATURES[held]), atol=1e-4)


def test_a_class_that_only_the_fold_has_scores_nothing() -> None:
    labels = np.where(dealt == 2, 3, LABELS)
    scores = held_out_scores(FEATURES, labels, dealt, 4, strength=0.5)
    assert np.allclose(scores[dealt == 2, 3], 0.0, atol=1e-6)
    assert np.allclose(scores.sum(1), 1.0, atol=1e-4), "scores regress onto indicators, which sum to one"


def test_features_that_do_not_vary_are_scored_by_the_shares() -> None:
    scores = held_out_scores(np.ones_like(FEATURES), LABELS, dealt, 3, strength=0.5)
    for fold in range(4):
        assert np.allclose(scores[dealt == fold], np.bincount(LABELS[dealt != fold]) / (dealt != fold).sum(), atol=1e-6)


def test_bins_hold_equal_shares_and_null_is_apart() -> None:
    values = pl.Series([None, float("nan"), *RANDOM.normal(size=2300).tolist()])
    bins = binned(values)
    assert bins[:2].tolist() == [0, 0]
    counts = np.bincount(bins[2:], minlength=BINS + 1)[1:BINS]
    assert counts.min() >= 90
    assert counts.max() <= 110
    assert np.array_equal(np.argsort(bins[2:], kind="stable"), np.argsort(bins[2:], kind="stable"))
    assert (np.diff(bins[2:][np.argsort(values[2:].to_numpy())]) >= 0).all()


def test_texts_keep_the_most_frequent_and_few_numbers_stay_as_they_are() -> None:
    texts = pl.Series(["a"] * 5 + ["b"] * 3 + [None] + [f"rare {n}" for n in range(40)])
    bins = binned(texts)
    assert len(set(bins[:5])) == 1
    assert bins[8] == 0
    assert bins.max() <= BINS
    assert len(set(binned(pl.Series([3, 1, 3, 2, 1])).tolist())) == 3


def test_naive_answers_are_the_argmax_of_counts_for_one_column() -> None:
    column = RANDOM.integers(0, 5, 90)
    answers = held_out_answers([column], LABELS, dealt, 3)
    for row in range(90):
        seen = (dealt != dealt[row]) & (column == column[row])
        counts = np.bincount(LABELS[seen], minlength=3)
        if (counts == counts.max()).sum() == 1:
            assert answers[row] == counts.argmax()


def test_columns_are_added_as_independent_evidence() -> None:
    """Two columns that each know one bit know four classes together."""
    labels = RANDOM.integers(0, 4, 400)
    folds = RANDOM.integers(0, 5, 400)
    assert (held_out_answers([labels % 2, labels // 2], labels, folds, 4) == labels).all()
    assert (held_out_answers([labels % 2], labels, folds, 4) == labels).mean() < 0.65
