"""Average precision and ROC-AUC against scikit-learn, their influences against numerical derivatives, their intervals
against DeLong's formula and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from sortal.evaluate.measure.grouped import Sample, statistic_interval
from sortal.evaluate.measure.ranking import average_precision, one_vs_rest, roc_auc

BOTH = [(average_precision, average_precision_score), (roc_auc, roc_auc_score)]


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_values_agree_with_scikit_learn_with_equal_scores(images: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 6 for score, _ in images])
    positive = np.array([own for _, own in images])
    if not positive.any():
        assert np.isnan(average_precision(scores, positive)[0])
        return
    assert average_precision(scores, positive)[0] == pytest.approx(average_precision_score(positive, scores))
    if positive.all():
        assert np.isnan(roc_auc(scores, positive)[0])
        return
    assert roc_auc(scores, positive)[0] == pytest.approx(roc_auc_score(positive, scores))


@pytest.mark.parametrize(("ours", "theirs"), BOTH)
def test_the_influence_is_the_derivative_by_an_images_weight(ours, theirs) -> None:
    generator = np.random.Generator(np.random.Philox(key=2))
    scores, positive = generator.integers(0, 12, 30) / 11, generator.random(30) < 0.4
    value, influence = ours(scores, positive)
    for row in range(30):
        weights = np.ones(30)
        weights[row] += 1e-5
        change = (theirs(positive, scores, sample_weight=weights) - value) / 1e-5
        assert influence[row] == pytest.approx(change, abs=1e-5)
    assert influence.sum() == pytest.approx(0.0, abs=1e-12)


def test_means_over_classes_leave_out_classes_without_images() -> None:
    generator = np.random.Generator(np.random.Philox(key=3))
    labels = generator.integers(0, 5, 300)
    probabilities = generator.dirichlet(np.ones(7), 300)
    probabilities[np.arange(300), labels] += 0.3
    found = one_vs_rest(Sample(size=300), probabilities, labels, measure="average_precision")
    expected = [average_precision_score(labels == name, probabilities[:, name]) for name in range(5)]
    assert found.values[:5] == pytest.approx(expected)
    assert found.defined.tolist() == [True] * 5 + [False] * 2
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.interval[0] < found.mean < found.interval[1]
    area = one_vs_rest(Sample(size=300), probabilities, labels, measure="roc_auc")
    own = probabilities[:, :5] / probabilities[:, :5].sum(axis=1, keepdims=True)
    areas = [roc_auc_score(labels == name, probabilities[:, name]) for name in range(5)]
    assert area.mean == pytest.approx(np.mean(areas))
    assert roc_auc_score(labels, own, multi_class="ovr") == pytest.approx(
        one_vs_rest(Sample(size=300), own, labels, measure="roc_auc").mean
    )


def test_two_classes_have_one_area() -> None:
    generator = np.random.Generator(np.random.Philox(key=4))
    labels = generator.integers(0, 2, 80)
    second = np.clip(generator.random(80) * 0.6 + 0.3 * labels, 0, 1)
    probabilities = np.stack([1 - second, second], axis=1)
    found = one_vs_rest(Sample(size=80), probabilities, labels, measure="roc_auc")
    assert found.mean == pytest.approx(roc_auc_score(labels, second))


def test_the_spread_of_the_area_is_delongs() -> None:
    """Sum of squared influences = S10 / m + S01 / n with the placement values' variances (divided by m and n)."""
    generator = np.random.Generator(np.random.Philox(key=5))
    positive = np.arange(60) < 20
    scores = generator.normal(size=60) + positive
    _, influence = roc_auc(scores, positive)
    above = (scores[positive][:, None] > scores[~positive][None, :]).astype(float)
    expected = above.mean(axis=1).var() / 20 + above.mean(axis=0).var() / 40
    assert np.square(influence).sum() == pytest.approx(expected)


def test_a_perfect_ranking_of_few_images_is_not_proof() -> None:
    labels = np.repeat([0, 1, 2], 10)
    probabilities = np.eye(3)[labels]
    for measure, least in (("average_precision", 0.75), ("roc_auc", 0.9)):
        found = one_vs_rest(Sample(size=30), probabilities, labels, measure=measure)
        assert found.mean == 1.0
        assert (found.low < least).all()
        assert 0.75 < found.interval[0] < 0.95
        assert found.interval[1] == 1.0


@pytest.mark.parametrize(("measure", "truth"), [(roc_auc, 0.8), (average_precision, None)])
def test_intervals_hold_the_truth_in_simulations(measure, truth: float | None) -> None:
    """Scores of two normal distributions; 200 evaluations of 40 positives among 200 images."""
    generator = np.random.Generator(np.random.Philox(key=6))
    shift = 1.1902  # AUC = Phi(shift / sqrt(2)) = 0.8
    if truth is None:
        many = np.arange(400_000) % 5 == 0
        truth = average_precision_score(many, generator.normal(size=400_000) + shift * many)
    positive, held = np.arange(200) % 5 == 0, 0
    for _ in range(200):
        value, influence = measure(generator.normal(size=200) + shift * positive, positive)
        low, high = statistic_interval(Sample(size=200), value, influence, counted=positive)
        held += low <= truth <= high
    assert 180 <= held <= 199
