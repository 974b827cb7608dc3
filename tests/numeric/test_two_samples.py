"""Tests of two samples and their tails against SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from sortal.data.two_samples import (
    area_under_curve,
    chi_square,
    chi_square_tail,
    kolmogorov_smirnov,
    kolmogorov_tail,
    normal_tail,
)

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("x", [0.0, 0.19, 0.3, 0.7, 1.0, 1.5, 3.0])
def test_kolmogorov_tail(x: float) -> None:
    assert kolmogorov_tail(x) == pytest.approx(special.kolmogorov(x), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "freedom"), [(0.0, 3), (1e-6, 1), (0.5, 1), (3.2, 4), (80.0, 80), (150.0, 80), (900.0, 500)]
)
def test_chi_square_tail(x: float, freedom: int) -> None:
    assert chi_square_tail(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-9)


def test_normal_tail() -> None:
    assert normal_tail(2.5) == pytest.approx(2 * stats.norm.sf(2.5))
    assert normal_tail(-2.5) == normal_tail(2.5)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("decimals", [12, 1])
def test_kolmogorov_smirnov(shift: float, decimals: int) -> None:
    one, other = RANDOM.normal(size=400).round(decimals), RANDOM.normal(shift, 1, 150).round(decimals)
    found, p = kolmogorov_smirnov(one, other)
    reference = stats.ks_2samp(one, other, method="exact")
    assert found == pytest.approx(reference.statistic)
    assert p == pytest.approx(reference.pvalue, rel=0.15)


def test_no_rows_are_no_difference() -> None:
    assert kolmogorov_smirnov(np.zeros(0), np.ones(5)) == (0.0, 1.0)
    assert chi_square(np.zeros(3), np.ones(3)) == (0.0, 1.0)
    assert area_under_curve(np.ones(3), np.zeros(3, bool)) == (0.5, 0.5)


def test_chi_square_is_that_of_the_contingency_table() -> None:
    one, other = np.array([60.0, 40.0, 50.0]), np.array([20.0, 35.0, 30.0])
    distance, p = chi_square(one, other)
    reference = stats.chi2_contingency(np.stack([one, other]), correction=False)
    assert p == pytest.approx(reference.pvalue)
    assert distance == pytest.approx(0.5 * np.abs(one / 150 - other / 85).sum())


def test_rare_classes_are_pooled_so_that_the_tail_holds() -> None:
    """With three images a class the plain test says p < 0.05 far more or less often than once in twenty."""
    shares = np.full(60, 1 / 60)
    ps = [chi_square(*RANDOM.multinomial([300, 60], shares).astype(float))[1] for _ in range(300)]
    assert np.mean(np.array(ps) < 0.05) < 0.1


def test_area_under_curve_with_ties() -> None:
    scores = RANDOM.integers(0, 6, 300).astype(float)
    positive = RANDOM.random(300) < 0.2 + 0.1 * scores
    area, error = area_under_curve(scores, positive)
    assert area == pytest.approx(roc_auc_score(positive, scores))
    drawn = []
    for _ in range(300):
        rows = RANDOM.integers(0, 300, 300)
        drawn.append(roc_auc_score(positive[rows], scores[rows]))
    assert error == pytest.approx(np.std(drawn), rel=0.25)
