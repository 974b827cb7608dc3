"""Our metrics against scikit-learn, including labels that are missing on one side or on both."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from sortal.core.backoff import sum_to_parents
from sortal.evaluate.measure.metrics import (
    averages,
    class_counts,
    class_scores,
    confused_pairs,
    confusion,
    hits_at,
    nearest_classes,
)

CLASSES = 6
INDICES = st.integers(min_value=0, max_value=CLASSES - 1)


@st.composite
def _answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(min_value=1, max_value=60))
    return (
        draw(arrays(np.int64, n, elements=INDICES)),
        draw(arrays(np.int64, n, elements=INDICES)),
    )


@given(_answers())
@settings(max_examples=150, deadline=None)
def test_scores_and_averages_agree_with_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    labels, index = answers
    matrix = confusion(labels, index, CLASSES)
    counts = class_counts(matrix)
    ours, scores = averages(counts), class_scores(counts)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(labels, index, labels=range(CLASSES)))
    assert ours["micro"]["f1"] == pytest.approx(sk.accuracy_score(labels, index))
    for average in ("micro", "macro", "weighted"):
        expected = sk.precision_recall_fscore_support(labels, index, average=average, zero_division=0)
        assert [float(ours[average][name]) for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    expected = sk.precision_recall_fscore_support(labels, index, labels=range(CLASSES), zero_division=0)
    for place, name in enumerate(("precision", "recall", "f1")):
        np.testing.assert_allclose(scores[name], expected[place])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about answers of classes without images
        assert float(ours["balanced"]["recall"]) == pytest.approx(sk.balanced_accuracy_score(labels, index))


def test_macro_leaves_out_a_class_absent_from_both_and_counts_one_only_answered_as_zero() -> None:
    labels, index = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    found = averages(class_counts(confusion(labels, index, 4)))
    assert float(found["macro"]["recall"]) == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert float(found["balanced"]["recall"]) == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_agrees_with_scikit_learn(k: int) -> None:
    generator = np.random.Generator(np.random.Philox(key=k))
    scores = generator.dirichlet(np.ones(9), size=400).astype(np.float32)
    labels = generator.integers(0, 9, size=400)
    expected = sk.top_k_accuracy_score(labels, scores, k=k, labels=range(9))
    assert hits_at(scores, labels, k).mean() == pytest.approx(expected)


def test_top_k_is_certain_when_k_reaches_the_classes_and_breaks_ties_by_order() -> None:
    even = np.full((3, 3), 1 / 3, np.float32)
    labels = np.array([0, 1, 2])
    assert hits_at(even, labels, 1).tolist() == [True, False, False]
    assert hits_at(even, labels, 2).tolist() == [True, True, False]
    assert hits_at(even, labels, 5).all()


@given(_answers())
@settings(max_examples=50, deadline=None)
def test_confusion_rows_sum_to_class_sizes(answers: tuple[np.ndarray, np.ndarray]) -> None:
    labels, index = answers
    matrix = confusion(labels, index, CLASSES)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(labels, minlength=CLASSES))
    np.testing.assert_array_equal(matrix.sum(axis=0), np.bincount(index, minlength=CLASSES))
    pairs = confused_pairs(matrix, CLASSES * CLASSES)
    assert sum(count for _, _, count in pairs) == (labels != index).sum()
    assert [count for _, _, count in pairs] == sorted((count for _, _, count in pairs), reverse=True)


@pytest.mark.parametrize("bad", [[0, -1], [0, 3]])
def test_confusion_refuses_indices_outside(bad: list[int]) -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        confusion(np.array([0, 1]), np.array(bad), 3)


def test_probabilities_sum_to_parents() -> None:
    chances = np.array([[0.4, 0.35, 0.25]], np.float32)
    np.testing.assert_allclose(sum_to_parents(chances, [0, 1, 1]), [[0.4, 0.6]])


def test_nearest_class_by_centroid_ignores_length_and_absent_classes() -> None:
    embeddings = np.array([[1, 0], [5, 0.5], [0, 1]], np.float32)
    nearest, distance = nearest_classes(embeddings, np.array([0, 1, 2]), 4)
    assert nearest.tolist() == [1, 0, 1, -1]
    assert distance[0] == pytest.approx(1 - 5 / np.hypot(5, 0.5))
    assert np.isnan(distance[3])
