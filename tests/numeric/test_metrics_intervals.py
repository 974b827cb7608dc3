"""Intervals: Wilson against scipy, averages over classes against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from sortal.evaluate.measure.intervals import mean_interval, resamples, wilson, z_score
from sortal.evaluate.measure.metrics import average_intervals, averages, class_counts


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=150, deadline=None)
def test_wilson_agrees_with_scipy(hits: int, misses: int, confidence: float) -> None:
    total = hits + misses
    low, high = wilson(hits, total, confidence)
    if not total:
        assert (low, high) == (0.0, 1.0)
        return
    expected = binomtest(hits, total).proportion_ci(confidence, method="wilson")
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_known_values_and_shapes() -> None:
    low, high = wilson([20, 0], [20, 20])
    np.testing.assert_allclose(low, [0.8389, 0.0], atol=1e-4)
    np.testing.assert_allclose(high, [1.0, 0.1611], atol=1e-4)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        z_score(confidence)


def test_resampling_cells_is_resampling_images() -> None:
    """Mean and variance of a resampled count are those of the binomial over images."""
    matrix = np.array([[30, 10, 0], [0, 40, 0], [5, 0, 15]])
    drawn = np.concatenate([block.hits for block in resamples(matrix, seed=3, count=4000)])
    share = 30 / 100
    assert drawn[:, 0].mean() == pytest.approx(30, abs=0.4)
    assert drawn[:, 0].var() == pytest.approx(100 * share * (1 - share), rel=0.1)
    totals = np.concatenate([block.true.sum(axis=1) for block in resamples(matrix, seed=3, count=50)])
    assert (totals == 100).all()


def test_resampling_repeats_from_its_seed() -> None:
    matrix = np.array([[8, 2], [1, 9]])
    assert average_intervals(matrix, 0.95, seed=1) == average_intervals(matrix, 0.95, seed=1)
    assert average_intervals(matrix, 0.95, seed=1) != average_intervals(matrix, 0.95, seed=2)


def test_no_error_is_not_proof_of_perfection() -> None:
    found = average_intervals(np.diag([20, 20, 20]), 0.95)
    for score in ("precision", "recall", "f1"):
        low, high = found["macro"][score]
        assert 0.8 < low < 0.97
        assert high == 1.0


def test_interval_holds_the_value_it_is_about() -> None:
    generator = np.random.Generator(np.random.Philox(key=4))
    for _ in range(20):
        matrix = generator.multinomial(60, np.full(16, 1 / 16)).reshape(4, 4)
        values, ends = averages(class_counts(matrix)), average_intervals(matrix, 0.9)
        for score in ("precision", "recall", "f1"):
            low, high = ends["macro"][score]
            assert low <= float(values["macro"][score]) <= high


def test_mean_interval_of_one_is_its_own() -> None:
    one = [np.array([value]) for value in (0.9, 0.7, 0.95)]
    assert mean_interval(*one) == pytest.approx((0.7, 0.95))


@pytest.mark.parametrize(("accuracy", "images"), [(0.9, 400), (0.995, 300)])
def test_macro_intervals_cover_the_truth(accuracy: float, images: int) -> None:
    """10 classes; 95 % intervals over 50 simulated evaluations hold the true macro scores at least 90 % of the time."""
    classes = 10
    rates = np.full((classes, classes), (1 - accuracy) / (classes - 1))
    np.fill_diagonal(rates, accuracy)
    cells = (rates / classes).ravel()
    generator = np.random.Generator(np.random.Philox(key=11))
    held = {"precision": 0, "recall": 0, "f1": 0}
    for trial in range(50):
        matrix = generator.multinomial(images, cells / cells.sum()).reshape(classes, classes)
        ends = average_intervals(matrix, 0.95, seed=trial)["macro"]
        for score in held:  # every class is alike, so that each macro score is the accuracy itself
            held[score] += ends[score][0] <= accuracy <= ends[score][1]
    assert min(held.values()) >= 45
