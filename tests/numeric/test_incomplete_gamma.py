"""The incomplete gamma function and its inverse against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma

from sortal.core.incomplete_gamma import gamma_quantile, log_gamma_cdf

SHAPES = np.array([0.02, 0.3, 1.0, 1.7, 5.0, 33.3, 400.0, 12_345.0, 1_000_000.0])


@pytest.mark.parametrize("share", [1e-6, 0.01, 0.05, 0.5, 0.9, 0.95, 0.999, 0.999999])
def test_the_quantile_is_scipys(share: float) -> None:
    truth = gamma.ppf(share, SHAPES)
    kept = truth > 1e-250
    np.testing.assert_allclose(gamma_quantile(share, SHAPES)[kept], truth[kept], rtol=1e-7)


def test_the_distribution_is_scipys() -> None:
    a, scale = (part.ravel() for part in np.meshgrid(SHAPES, [0.3, 0.95, 1.0, 1.05, 3.0]))
    truth = gamma.logcdf(a * scale, a)
    near = truth > -600
    np.testing.assert_allclose(log_gamma_cdf(a * scale, a)[near], truth[near], rtol=1e-7, atol=1e-12)


def test_no_shapes_give_no_quantiles() -> None:
    assert gamma_quantile(0.95, np.zeros(0)).shape == (0,)
