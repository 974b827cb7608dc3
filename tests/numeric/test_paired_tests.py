"""Paired tests against scipy and closed forms, and simulations that they keep their level and find what is there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import f1_score

from sortal.evaluate.compare.bootstrap import Answers, bootstrap_differences
from sortal.evaluate.compare.paired import (
    PairedTest,
    difference_interval,
    images_needed,
    paired_test,
    sign_test,
)


def _rights(better: int, worse: int, both: int = 5, neither: int = 3) -> tuple[np.ndarray, np.ndarray]:
    first = np.array([False] * better + [True] * worse + [True] * both + [False] * neither)
    second = np.array([True] * better + [False] * worse + [True] * both + [False] * neither)
    return first, second


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (3, 3), (10, 2), (2, 10), (40, 23), (700, 640)])
def test_without_groups_it_is_the_exact_mcnemar_test(better: int, worse: int) -> None:
    test = paired_test(*_rights(better, worse))
    n = better + worse
    expected = binomtest(better, n).pvalue if n else 1.0
    assert test.p == pytest.approx(expected, rel=1e-9)
    assert (test.better, test.worse, test.n, test.units) == (better, worse, n + 8, n)
    tail = min(better, worse)
    twice = 2 * binom.cdf(tail, n, 0.5) - binom.pmf(tail, n, 0.5)
    mid = twice if better != worse else 1 - 0.5 * binom.pmf(tail, n, 0.5)
    assert test.mid_p == pytest.approx(mid, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_sign_test_is_the_count_over_all_signs(gaps: list[int]) -> None:
    values = np.array(gaps)
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(gaps), indexing="ij")).reshape(len(gaps), -1)
    sums = np.abs(values @ signs)
    seen = abs(values.sum())
    p, mid_p = sign_test(values)
    assert p == pytest.approx((sums >= seen).mean(), abs=1e-12)
    assert mid_p == pytest.approx((sums > seen).mean() + (sums == seen).mean() / 2, abs=1e-12)


def test_images_of_one_group_are_one_piece_of_evidence() -> None:
    first, second = np.zeros(30, bool), np.ones(30, bool)
    assert paired_test(first, second).p < 1e-8
    assert paired_test(first, second, np.repeat([0, 1, 2], 10)).p == pytest.approx(2 * 0.5**3)
    assert paired_test(first, second, np.arange(30)).p == paired_test(first, second).p


def test_the_test_keeps_its_level_with_and_without_groups() -> None:
    """1,500 repetitions of two equally good classifiers; 5 % plus three standard errors."""
    random = np.random.default_rng(5)
    limit = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)
    alone = grouped = naive = 0
    groups = np.repeat(np.arange(30), 5)
    for _ in range(1500):
        first, second = random.random((2, 150)) < 0.85
        alone += paired_test(first, second).p <= 0.05
        hard = random.random((2, 30)) < 0.85  # whole groups are right or wrong
        first, second = hard[0][groups], hard[1][groups]
        grouped += paired_test(first, second, groups).p <= 0.05
        naive += paired_test(first, second).p <= 0.05
    assert alone / 1500 <= limit
    assert grouped / 1500 <= limit
    assert naive / 1500 > 0.2  # what ignoring groups would cost


def test_the_number_of_images_needed_has_the_power_it_promises() -> None:
    """Two classifiers that disagree on 10 % of images with a true gap of 3 points."""
    random = np.random.default_rng(6)
    seen = PairedTest(n=1000, better=65, worse=35, p=0.0, mid_p=0.0, units=100)
    n = images_needed(seen, 0.03, power=0.8)
    drawn = random.multinomial(n, [0.065, 0.035, 0.9], size=2000)
    better, worse = drawn[:, 0], drawn[:, 1]
    found = 2 * binom.cdf(np.minimum(better, worse), better + worse, 0.5) <= 0.05
    assert 0.74 <= found.mean() <= 0.86
    assert images_needed(seen, 0.01) > 5 * n


def test_newcombes_interval_covers_and_does_not_collapse() -> None:
    """36, 12, 2 and 0 of 50 is an example of Newcombe (1998); the truth is held in about 95 % of simulations."""
    test = PairedTest(n=50, better=12, worse=2, p=0.0, mid_p=0.0, units=14)
    low, high = difference_interval(test, 38)
    assert (low, high) == (pytest.approx(0.0569, abs=5e-5), pytest.approx(0.3404, abs=5e-5))
    same = PairedTest(n=50, better=0, worse=0, p=1.0, mid_p=1.0, units=0)
    low, high = difference_interval(same, 45)
    assert low < 0 < high
    random = np.random.default_rng(7)
    held = 0
    for better, worse, right, _ in random.multinomial(200, [0.08, 0.04, 0.8, 0.08], size=2000):
        one = PairedTest(n=200, better=better, worse=worse, p=0, mid_p=0, units=better + worse)
        low, high = difference_interval(one, int(right + worse))
        held += low <= 0.04 <= high
    assert 0.935 <= held / 2000 <= 0.985


def _made(n: int, seed: int) -> tuple[np.ndarray, Answers, Answers]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n)
    sides = []
    for share in (0.75, 0.85):
        index = np.where(random.random(n) < share, labels, random.integers(0, 4, n))
        sides.append(Answers(index=index, probability=random.random(n)))
    return labels, sides[0], sides[1]


def test_the_differences_are_those_of_scikit_learn() -> None:
    labels, first, second = _made(300, 9)
    found = bootstrap_differences(labels, first, second, classes=4, coverage=1.0)
    scores = [f1_score(labels, one.index, average="macro") for one in (first, second)]
    assert found["macro_f1_difference"].value == pytest.approx(scores[1] - scores[0])
    gap = (second.index == labels).mean() - (first.index == labels).mean()
    assert found["accuracy_difference"].value == pytest.approx(gap)
    assert found["error_at_coverage_difference"].value == pytest.approx(-gap)
    for metric in found.values():
        assert metric.low < metric.value < metric.high


def test_the_surest_answers_make_up_the_coverage() -> None:
    labels = np.zeros(10, np.int64)
    unsure_wrong = Answers(index=np.array([1, 1] + [0] * 8), probability=np.array([0.1, 0.2] + [0.9] * 8))
    sure_wrong = Answers(index=np.array([1, 1] + [0] * 8), probability=np.array([0.99, 0.98] + [0.9] * 8))
    found = bootstrap_differences(labels, unsure_wrong, sure_wrong, classes=2, coverage=0.8)
    assert found["accuracy_difference"].value == 0.0
    assert found["error_at_coverage_difference"].value == pytest.approx(2 / 8)


def test_the_paired_bootstrap_agrees_with_the_normal_approximation() -> None:
    """Standard error of a paired difference: sqrt(b + c - (b - c)^2 / n) / n; groups widen it by their size."""
    labels, first, second = _made(800, 10)
    gained = (second.index == labels).astype(int) - (first.index == labels).astype(int)
    error = np.sqrt((gained**2).sum() - gained.sum() ** 2 / 800) / 800
    found = bootstrap_differences(labels, first, second, classes=4, count=1500)["accuracy_difference"]
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    groups = np.repeat(np.arange(800), 4)
    tiled = [
        Answers(index=np.repeat(one.index, 4), probability=np.repeat(one.probability, 4)) for one in (first, second)
    ]
    wide = bootstrap_differences(np.repeat(labels, 4), *tiled, classes=4, count=1500, groups=groups)
    wide_gap = wide["accuracy_difference"]
    assert wide_gap.high - wide_gap.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_resampling_repeats() -> None:
    labels, first, second = _made(100, 11)
    assert bootstrap_differences(labels, first, second, classes=4) == bootstrap_differences(
        labels, first, second, classes=4
    )
