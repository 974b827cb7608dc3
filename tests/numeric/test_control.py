"""Promises: exact tails, effective counts by brute force, and how often a promise is broken in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from sortal.evaluate.trust.control import (
    Evidence,
    allowed,
    candidates,
    correlation,
    counts_of_prefixes,
    furthest,
    images_needed,
    tail,
    worth,
)


def generator(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def test_the_tail_is_the_binomial_one() -> None:
    k, n = np.array([0.0, 2, 3, 10, 149, 5]), np.array([149.0, 313, 1000, 200, 149, 0])
    expected = np.where(n > 0, binom.cdf(k, np.maximum(n, 1), 0.02), 1.0)
    np.testing.assert_allclose(tail(k, n, 0.02), expected, rtol=1e-9)
    assert tail(np.array([2.5]), np.array([100.5]), 0.1)[0] == pytest.approx(beta.cdf(0.9, 98.0, 3.5), rel=1e-9)
    assert tail(np.array([0.0]), np.array([10.0]), 0.0)[0] == 1.0
    assert tail(np.array([0.0]), np.array([10.0]), 1.0)[0] == 0.0


def test_how_many_images_a_promise_takes() -> None:
    assert images_needed(0.0, 0.02, 0.05) == 149
    assert (allowed(148, 0.02, 0.05), allowed(149, 0.02, 0.05)) == (-1, 0)
    n = images_needed(0.01, 0.02, 0.05)
    assert n is not None
    assert binom.cdf(round(0.01 * n), n, 0.02) == pytest.approx(0.05, abs=0.02)
    assert images_needed(0.02, 0.02, 0.05) is None
    assert images_needed(0.5, 1.0, 0.05) == 1


def test_plain_counts_are_counts() -> None:
    bad = np.array([0.0, 1, 0, 1])
    hits, total = counts_of_prefixes(Evidence(bad=bad))
    assert (hits.tolist(), total.tolist()) == ([0, 1, 1, 2], [1, 2, 3, 4])
    hits, total = counts_of_prefixes(Evidence(bad=bad), of_all=True)
    assert (hits.tolist(), total.tolist()) == ([0, 1, 1, 2], [4, 4, 4, 4])


@pytest.mark.parametrize("of_all", [False, True])
def test_running_sums_are_those_of_every_prefix(*, of_all: bool) -> None:
    """The share of mistakes and the spread between groups, computed prefix by prefix from scratch."""
    random = generator(1)
    bad, groups = (random.random(60) < 0.3).astype(np.float64), random.integers(0, 8, 60)
    weights = random.random(60) + 0.5
    evidence = Evidence(bad=bad, weights=weights, groups=groups)
    hits, total = counts_of_prefixes(evidence, of_all=of_all)
    for place in (3, 20, 41, 59):
        seen = np.arange(60) <= place
        counted = np.ones(60, bool) if of_all else seen
        share = (weights * bad)[seen].sum() / weights[counted].sum()
        assert hits[place] / total[place] == pytest.approx(share)
        mistakes, counts = np.where(seen, weights * bad, 0.0), np.where(counted, weights, 0.0)
        sums = np.bincount(groups, mistakes - share * counts)
        count = len(np.unique(groups[counted]))
        spread = np.square(sums).sum() * count / (count - 1) / weights[counted].sum() ** 2
        least = weights[counted].sum() ** 2 / np.square(weights[counted]).sum()
        assert total[place] <= min(least, share * (1 - share) / max(spread, 1e-12)) + 1e-9


def test_groups_that_err_together_are_one_fact_each() -> None:
    groups = np.repeat(np.arange(50), 10)
    together = np.repeat(generator(2).random(50) < 0.2, 10).astype(np.float64)
    apart = (generator(3).random(500) < 0.2).astype(np.float64)
    assert correlation(together, groups) > 0.9
    assert correlation(apart, groups) < 0.15
    assert correlation(np.zeros(500), groups) == 1.0, "unknown where there was no mistake"
    assert correlation(apart, np.arange(500)) == 0.0
    size = worth(Evidence(bad=together, groups=groups, correlation=correlation(together, groups)))[-1]
    assert size == pytest.approx(50, rel=0.15)


def test_thresholds_lie_between_scores_and_keep_ties_together() -> None:
    numbers, limits = candidates(np.array([0.9, 0.8, 0.8, 0.5]))
    assert numbers.tolist() == [1, 3, 4]
    np.testing.assert_allclose(limits, [0.85, 0.65, -np.inf])
    assert len(candidates(np.linspace(1, 0, 5_000))[0]) <= 100
    assert candidates(np.zeros(0))[0].tolist() == []


def test_a_chain_ends_at_the_first_failure_and_another_may_begin() -> None:
    sizes = np.arange(10.0, 2_010, 10)
    good = np.full(200, 1e-9)
    assert furthest(good, sizes, 0.05, 0.02) == 199
    broken = good.copy()
    broken[30] = 1.0
    assert furthest(broken, sizes, 0.05, 0.02) == 199, "a later chain began behind the failure"
    late = np.ones(200)
    late[16:20] = 0.01
    assert furthest(late, sizes, 0.05, 0.02) is None, "none begins at 160 with so little of the level"
    assert furthest(np.zeros(3), np.array([10.0, 20.0, 30.0]), 0.05, 0.02) is None


@pytest.mark.parametrize(("groups", "spread"), [(0, 0.0), (120, 1.0)])
def test_promises_are_broken_at_most_as_often_as_said(groups: int, spread: float) -> None:
    """Simulated truth: the chance of a mistake rises as sureness falls; the error above any threshold is known."""
    random, limit, level = generator(4), 0.05, 0.1
    broken, given = 0, 0.0
    for _ in range(80):
        scores = -np.sort(-random.random(500))
        chance = 0.4 * (1 - scores) ** 2
        number = random.integers(0, groups, 500) if groups else None
        factor = random.gamma(spread, 1 / spread, groups)[number] if groups else 1.0
        bad = (random.random(500) < np.minimum(chance * factor, 1)).astype(np.float64)
        shared = 0.0 if number is None else correlation(bad, number)
        evidence = Evidence(bad=bad, groups=number, correlation=shared)
        hits, total = counts_of_prefixes(evidence)
        numbers, limits = candidates(scores)
        p_values = tail(hits[numbers - 1], total[numbers - 1], limit)
        found = furthest(p_values, worth(evidence)[numbers - 1], level, limit)
        if found is not None:
            threshold = max(float(limits[found]), 0.0)
            broken += 0.4 * (1 - threshold) ** 2 / 3 > limit
            given += numbers[found] / 500
    assert broken <= binom.ppf(0.999, 80, level)
    assert given / 80 > 0.2, "a promise that answers nothing is no promise"
