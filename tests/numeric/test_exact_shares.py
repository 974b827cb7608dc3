"""Exact bounds on shares against SciPy's beta distribution, closed forms, and the coverage they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from sortal.core.incomplete_beta import log_beta_cdf
from sortal.core.shares import clopper_pearson, exact_lower, exact_upper, wilson


def _grid() -> tuple[np.ndarray, np.ndarray]:
    pairs = []
    for n in (1, 2, 3, 7, 20, 59, 149, 1000, 12_345, 100_000, 1_000_000):
        pairs += [(k, n) for k in sorted({0, 1, 2, n // 100, n // 3, n // 2, n - n // 100, n - 1, n}) if 0 <= k <= n]
    found = np.array(pairs, dtype=np.float64)
    return found[:, 0], found[:, 1]


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.95, 0.99, 0.9999])
def test_bounds_are_the_beta_quantiles(confidence: float) -> None:
    k, n = _grid()
    with np.errstate(invalid="ignore"):
        low = np.nan_to_num(beta.ppf(1 - confidence, k, n - k + 1), nan=0.0)
        high = np.nan_to_num(beta.ppf(confidence, k + 1, n - k), nan=1.0)
    low, high = np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)
    np.testing.assert_allclose(exact_lower(k, n, confidence), low, rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(exact_upper(k, n, confidence), high, rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(1 - exact_upper(k, n, confidence), 1 - high, rtol=1e-6, atol=1e-14)


def test_two_sided_ends_are_one_sided_bounds_at_half_the_rest() -> None:
    low, high = clopper_pearson([3, 0, 20], [20, 20, 20], 0.95)
    np.testing.assert_allclose(low, beta.ppf(0.025, [3, 1, 20], [18, 21, 1]) * [1, 0, 1], rtol=1e-9)
    np.testing.assert_allclose(high[:2], beta.ppf(0.975, [4, 1], [17, 20]), rtol=1e-9)
    assert high[2] == 1.0


def test_closed_forms() -> None:
    n = np.array([1, 10, 149, 10_000])
    np.testing.assert_allclose(exact_upper(0, n, 0.95), 1 - 0.05 ** (1 / n), rtol=1e-12)
    np.testing.assert_allclose(exact_lower(n, n, 0.95), 0.05 ** (1 / n), rtol=1e-12)
    assert exact_upper(0, 0) == 1.0
    assert exact_lower(0, 0) == 0.0
    assert exact_lower(149, 149, 0.95) >= 0.98 > exact_lower(148, 148, 0.95)
    assert exact_lower(235, 236, 0.95) >= 0.98 > exact_lower(234, 235, 0.95)


def test_fractions_of_images_are_allowed_and_shapes_broadcast() -> None:
    np.testing.assert_allclose(exact_upper(2.5, 40.25, 0.95), beta.ppf(0.95, 3.5, 37.75), rtol=1e-9)
    assert exact_upper([[0], [1]], [10, 20, 30]).shape == (2, 3)
    assert exact_upper([], []).shape == (0,)


@pytest.mark.parametrize(("hits", "total", "confidence"), [(3, 2, 0.95), (-1, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0)])
def test_impossible_counts_are_refused(hits: int, total: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        exact_upper(hits, total, confidence)


def test_the_incomplete_beta_function_agrees_with_scipy() -> None:
    a, b, x = (part.ravel() for part in np.meshgrid([0.3, 1, 8, 5000], [0.7, 1, 40, 9000], [1e-6, 0.2, 0.5, 0.9]))
    truth = beta.logcdf(x, a, b)
    near = truth > -600
    np.testing.assert_allclose(log_beta_cdf(x, a, b)[near], truth[near], rtol=1e-9, atol=1e-12)


def test_clopper_pearson_always_covers_and_wilson_covers_on_average() -> None:
    """Exact coverage by summing the binomial distribution, for every share of a fine grid."""
    shares = np.linspace(0.005, 0.995, 397)
    for n in (10, 50, 200, 1000):
        k = np.arange(n + 1)
        chance = binom.pmf(k[None, :], n, shares[:, None])
        low, high = clopper_pearson(k, n, 0.95)
        exact = (chance * ((low <= shares[:, None]) & (shares[:, None] <= high))).sum(axis=1)
        assert exact.min() >= 0.95 - 1e-12
        low, high = wilson(k, n, 0.95)
        score = (chance * ((low <= shares[:, None]) & (shares[:, None] <= high))).sum(axis=1)
        assert abs(score.mean() - 0.95) <= 0.01
