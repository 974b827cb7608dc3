"""Bounds of a percentile from order statistics: closed forms and simulated truth."""

from __future__ import annotations

import numpy as np

from sortal.evaluate.latency import calls_needed, percentile_bounds


def test_299_calls_are_the_fewest_that_bound_the_99th_percentile() -> None:
    times = np.arange(1.0, 300.0)
    assert calls_needed(0.99, 0.95) == 299
    assert percentile_bounds(times, 0.99, 0.95)[1] == 299.0
    assert percentile_bounds(times[:-1], 0.99, 0.95)[1] is None
    assert calls_needed(0.5, 0.95) == 5


def test_bounds_hold_as_often_as_they_say_whatever_the_distribution() -> None:
    random = np.random.default_rng(5)
    truth = np.exp(2.3263478740408408)  # of the log-normal distribution
    ends = [percentile_bounds(np.exp(random.normal(size=500)), 0.99, 0.95) for _ in range(2000)]
    upper = np.mean([high is not None and high >= truth for _, high in ends])
    lower = np.mean([low <= truth for low, _ in ends])
    assert min(upper, lower) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 2000)
