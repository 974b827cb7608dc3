"""Intervals that count groups: closed forms, scipy's Student t, and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact, t

from sortal.evaluate.measure.grouped import (
    Sample,
    grouped,
    share_interval,
    share_intervals,
    statistic_interval,
    student_t,
    student_t_tail,
)
from sortal.evaluate.measure.grouped_averages import grouped_average_intervals, grouped_class_intervals
from sortal.evaluate.measure.intervals import wilson
from sortal.evaluate.measure.metrics import averages, class_counts, class_scores, confusion
from sortal.evaluate.measure.weaker import fisher_less, holm, weaker_p


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_student_t_agrees_with_scipy(confidence: float) -> None:
    degrees = np.array([1.0, 1.5, 2.0, 3.7, 12.0, 80.0, 900.0])
    np.testing.assert_allclose(student_t(confidence, degrees), t.ppf(0.5 + confidence / 2, degrees), rtol=2e-3)
    for value, freedom in ((0.0, 3.0), (2.5, 1.0), (2.5, 7.3), (4.0, 60.0)):
        assert student_t_tail(value, freedom) == pytest.approx(t.sf(value, freedom), rel=1e-2, abs=1e-6)


def test_without_groups_it_is_wilson() -> None:
    hits = np.arange(90) < 80
    low, high = wilson(80, 90)
    alone = grouped(np.full(90, -1))
    assert alone.groups is None
    assert share_interval(alone, hits) == (float(low), float(high))
    assert grouped(np.arange(90)).groups is None, "as many groups as images are images"


def test_groups_that_are_right_or_wrong_as_a_whole_count_as_one_image_each() -> None:
    """40 groups of 5 alike, 8 wrong: the effective sample size is 40, but for Student's t in place of the normal."""
    codes = np.repeat(np.arange(40), 5)
    low, high = share_interval(grouped(codes), codes >= 8)
    fewer, more = wilson(32, 40), wilson(32 * 0.8, 40 * 0.8)
    assert float(more[0][()]) < low < float(fewer[0]) + 0.01
    assert float(fewer[1]) - 0.01 < high < float(more[1])


def test_no_error_in_few_groups_is_not_proof() -> None:
    codes = np.repeat(np.arange(6), 100)
    low, high = share_interval(grouped(codes), np.ones(600, bool))
    assert (low, high) == pytest.approx((float(wilson(6, 6)[0]), 1.0))
    one = share_interval(grouped(np.zeros(600, np.int64)), np.ones(600, bool))
    assert one[0] == pytest.approx(float(wilson(1, 1)[0]))


def test_errors_in_one_group_say_little_about_the_next() -> None:
    codes, spread = np.repeat(np.arange(10), 20), np.ones(200, bool)
    together = spread.copy()
    together[:10] = False
    spread[np.arange(10) * 20] = False
    far, near = (share_interval(grouped(codes), hits) for hits in (together, spread))
    assert far[1] - far[0] > 2 * (near[1] - near[0])


def test_strata_are_measured_apart_and_an_empty_one_is_unknown() -> None:
    codes = np.repeat(np.arange(12), 10)
    hits, strata = np.arange(120) % 7 > 0, codes // 6
    low, high = share_intervals(grouped(codes), hits, strata, 3)
    for stratum in range(2):
        inside = strata == stratum
        assert share_interval(grouped(codes), hits, inside) == pytest.approx((low[stratum], high[stratum]))
        assert share_interval(grouped(codes[inside]), hits[inside]) == pytest.approx((low[stratum], high[stratum]))
    assert (low[2], high[2]) == (0.0, 1.0)


def test_a_share_is_a_mean() -> None:
    generator = np.random.Generator(np.random.Philox(key=1))
    codes, hits = generator.integers(0, 30, 400), generator.random(400) < 0.8
    sample = grouped(codes)
    mean = hits.mean()
    found = statistic_interval(sample, mean, (hits - mean) / 400, mean=True)
    assert found == pytest.approx(share_interval(sample, hits), abs=0.01)


def test_scores_by_class_and_averages_hold_their_values() -> None:
    generator = np.random.Generator(np.random.Philox(key=2))
    labels, codes = generator.integers(0, 4, 300), generator.integers(0, 25, 300)
    answers = np.where(generator.random(300) < 0.8, labels, generator.integers(0, 5, 300))
    sample = grouped(codes)
    counts = class_counts(confusion(labels, answers, 5))
    for score, (low, high) in grouped_class_intervals(sample, labels, answers, 5).items():
        assert (low <= class_scores(counts)[score] + 1e-9).all()
        assert (high >= class_scores(counts)[score] - 1e-9).all()
    found = grouped_average_intervals(sample, labels, answers, 5)
    for average, scores in averages(counts).items():
        for score, value in scores.items():
            assert found[average][score][0] < float(value) < found[average][score][1]


def test_a_perfect_result_in_one_group_a_class_stays_uncertain() -> None:
    labels = np.repeat(np.arange(8), 40)
    low, high = grouped_average_intervals(grouped(labels), labels, labels, 8)["macro"]["f1"]
    assert low < 0.85
    assert high == 1.0


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
def test_intervals_of_shares_hold_the_truth(correlation: float) -> None:
    """30 groups of 10, 90 % right: 95 % intervals hold it in at least 92 % of 400 simulations; Wilson's on images, with
    any correlation, in fewer than 85 %."""
    generator, held, naive = np.random.Generator(np.random.Philox(key=3)), 0, 0
    strength = np.inf if not correlation else (1 - correlation) / correlation
    codes = np.repeat(np.arange(30), 10)
    for _ in range(400):
        rates = 0.9 if not correlation else generator.beta(0.9 * strength, 0.1 * strength, 30)[codes]
        hits = generator.random(300) < rates
        low, high = share_interval(grouped(codes), hits)
        held += low <= 0.9 <= high
        ends = wilson(hits.sum(), 300)
        naive += float(ends[0]) <= 0.9 <= float(ends[1])
    assert held >= 368
    assert not correlation or naive < 340


def test_fisher_and_holm_agree_with_references() -> None:
    for hits, drawn, good, total in ((3, 10, 40, 50), (0, 5, 4, 12), (9, 10, 95, 100), (10, 10, 95, 100)):
        table = [[hits, drawn - hits], [good - hits, total - good - drawn + hits]]
        expected = fisher_exact(table, alternative="less").pvalue
        assert fisher_less(hits, drawn, good, total) == pytest.approx(expected)
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("by_group", [False, True])
def test_a_slice_like_the_rest_is_rarely_called_weaker(*, by_group: bool) -> None:
    generator, found = np.random.Generator(np.random.Philox(key=4)), 0
    codes = np.repeat(np.arange(40), 8)
    sample = grouped(codes) if by_group else Sample(size=320)
    for _ in range(400):
        rates = generator.beta(2.7, 0.3, 40)[codes] if by_group else np.full(320, 0.9)
        found += weaker_p(sample, generator.random(320) < rates, codes < 10) < 0.05
    assert found <= 30
