"""Kappa, grade error, mean cost and shares at a prevalence against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.evaluate.measure.costs import cost_matrix, cost_metric, image_costs
from sortal.evaluate.measure.grouped import Sample, grouped
from sortal.evaluate.measure.intervals import wilson
from sortal.evaluate.measure.metrics import confusion
from sortal.evaluate.measure.ordinal import as_grades, grade_error_metric, kappa, kappa_metric
from sortal.evaluate.measure.prevalence import class_mix, image_weights, mixed_share

ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60)


@given(ANSWERS)
@settings(max_examples=150, deadline=None)
def test_kappa_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    true, answered = (np.array(column) for column in zip(*pairs, strict=True))
    for quadratic in (False, True):
        value = kappa(confusion(true, answered, 4), quadratic=quadratic)
        if len({*true, *answered}) == 1:
            assert value is None
            continue
        weights = "quadratic" if quadratic else None
        assert value == pytest.approx(cohen_kappa_score(true, answered, labels=range(4), weights=weights), abs=1e-12)
        metric = kappa_metric(Sample(size=len(true)), true, answered, 4, quadratic=quadratic)
        assert -1 <= metric.low <= metric.value <= metric.high <= 1


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_grade_error_is_the_mean_absolute_error(pairs: list[tuple[int, int]]) -> None:
    true, answered = (np.array(column) for column in zip(*pairs, strict=True))
    metric = grade_error_metric(Sample(size=len(true)), true, answered, 4)
    assert metric.value == pytest.approx(mean_absolute_error(true, answered))
    assert 0 <= metric.low <= metric.value <= metric.high <= 3


def test_right_answers_alone_do_not_make_kappa_certain() -> None:
    true = np.arange(60) % 3
    metric = kappa_metric(Sample(size=60), true, true, 3, quadratic=True)
    assert metric.value == 1.0
    assert 0.6 < metric.low < 0.95


EVEN = ((0.3, 0.05, 0.0), (0.05, 0.25, 0.05), (0.02, 0.03, 0.25))
ONE_RULES = ((0.85, 0.03, 0.01), (0.02, 0.05, 0.0), (0.01, 0.0, 0.03))


@pytest.mark.parametrize("table", [EVEN, ONE_RULES])
@pytest.mark.parametrize("quadratic", [False, True])
def test_kappa_intervals_hold_the_truth(table: tuple[tuple[float, ...], ...], *, quadratic: bool) -> None:
    joint = np.array(table)
    truth = kappa((joint * 10000).astype(np.int64), quadratic=quadratic)
    generator = np.random.Generator(np.random.Philox(key=1))
    held = 0
    for _ in range(200):
        cells = generator.choice(9, size=150, p=joint.ravel())
        metric = kappa_metric(Sample(size=150), cells // 3, cells % 3, 3, quadratic=quadratic)
        held += metric.low <= truth <= metric.high
    assert 184 <= held <= 200


def test_only_graded_classes_count_in_the_order_that_was_given() -> None:
    labels, answers = np.array([0, 1, 2, 3, 3]), np.array([3, 1, 2, 0, 1])
    true, answered, graded = as_grades(labels, answers, np.array([3, 0, 2]))  # class 1 is no grade
    assert graded.tolist() == [True, False, True, True, False]
    assert (true[graded].tolist(), answered[graded].tolist()) == ([1, 2, 0], [0, 2, 1])


def test_mean_cost_is_the_sum_over_the_confusion_matrix() -> None:
    labels = LabelSet(names=("crack", "ok"))
    matrix = cost_matrix({"crack": {"ok": 50.0}, "ok": {"crack": 1.0}}, labels)
    true, answered = np.array([0] * 10 + [1] * 90), np.array([1] + [0] * 12 + [1] * 87)
    costs = image_costs(matrix, true, answered, np.zeros(100, bool))
    metric = cost_metric(Sample(size=100), costs, 50.0)
    assert metric.value == pytest.approx((confusion(true, answered, 2) * matrix).sum() / 100)
    assert metric.low < 0.53 < metric.high
    person = np.arange(100) == 0
    assert image_costs(matrix, true, answered, person).sum() == 3.0
    with pytest.raises(DataError, match="unknown class"):
        cost_matrix({"crac": {"ok": 1.0}}, labels)


def test_no_mistake_seen_leaves_a_cost_possible() -> None:
    metric = cost_metric(Sample(size=100), np.zeros(100), 50.0)
    assert (metric.value, metric.low) == (0.0, 0.0)
    assert metric.high == pytest.approx(50 * float(wilson(0, 100)[1]))


def test_costs_weighed_by_prevalence_hold_the_truth() -> None:
    """Rare in production, frequent in the data: 30 % of cracks here, 2 % there; 300 simulated evaluations."""
    labels = LabelSet(names=("crack", "ok"))
    generator, held = np.random.Generator(np.random.Philox(key=8)), 0
    true = (np.arange(400) >= 120).astype(np.int64)
    mix = class_mix({"crack": 0.02}, labels, np.bincount(true))
    for _ in range(300):
        cost = np.where(true == 0, 20.0 * (generator.random(400) < 0.1), 1.0 * (generator.random(400) < 0.05))
        metric = cost_metric(Sample(size=400), cost, 20.0, image_weights(mix, true))
        held += metric.low <= 0.02 * 2.0 + 0.98 * 0.05 <= metric.high
    assert held >= 279


def test_a_share_at_a_prevalence_is_the_mix_of_the_classes() -> None:
    labels = LabelSet(names=("crack", "dent", "ok"))
    true = np.repeat([0, 1, 2], [40, 40, 120])
    right = np.ones(200, bool)
    right[:8] = False
    mix = class_mix({"crack": 0.01}, labels, np.bincount(true))
    assert mix.shares == pytest.approx([0.01, 0.99 * 0.25, 0.99 * 0.75])
    metric = mixed_share(Sample(size=200), mix, true, right)
    assert metric.value == pytest.approx(1 - 0.01 * 0.2)
    assert metric.low < metric.value < metric.high
    assert image_weights(mix, true).mean() == pytest.approx(1.0)
    among = mixed_share(Sample(size=200), mix, true, right, np.arange(200) < 80)
    assert among.value == pytest.approx(1 - 0.01 * 0.2 / (0.01 + 0.99 * 0.25))
    assert among.n == 80


def test_one_class_at_its_own_share_is_plain_wilson() -> None:
    mix = class_mix({"a": 1.0}, LabelSet(names=("a", "b")), np.array([50, 0]))
    metric = mixed_share(Sample(size=50), mix, np.zeros(50, np.int64), np.arange(50) < 45)
    low, high = wilson(45, 50)
    assert (metric.low, metric.high) == pytest.approx((float(low), float(high)))


def test_what_a_prevalence_cannot_be() -> None:
    labels = LabelSet(names=("a", "b", "c"))
    with pytest.raises(DataError, match="more than 1"):
        class_mix({"a": 0.7, "b": 0.5}, labels, np.array([1, 1, 1]))
    with pytest.raises(DataError, match="unknown class"):
        class_mix({"d": 0.5}, labels, np.array([1, 1, 1]))
    with pytest.raises(DataError, match="has an image"):
        class_mix({"a": 1.0}, labels, np.array([0, 5, 5]))
    found = class_mix({"a": 0.2}, labels, np.array([0, 5, 15]))
    assert found.missing == ("a",)
    assert found.shares == pytest.approx([0.0, 0.25, 0.75])


@pytest.mark.parametrize("by_group", [False, True])
def test_stratified_intervals_hold_the_truth(*, by_group: bool) -> None:
    """Three classes at 5, 15 and 80 % of production and a third each of the data; 300 simulated evaluations."""
    labels = LabelSet(names=("a", "b", "c"))
    rates, shares = np.array([0.7, 0.9, 0.97]), np.array([0.05, 0.15, 0.8])
    generator, held = np.random.Generator(np.random.Philox(key=9)), 0
    true = np.repeat([0, 1, 2], 120)
    groups = np.arange(360) // 4
    mix = class_mix(dict(zip(labels.names, shares.tolist(), strict=True)), labels, np.bincount(true))
    sample = grouped(groups) if by_group else Sample(size=360)
    for _ in range(300):
        rate = rates[true]
        if by_group:
            rate = generator.beta(rate[::4] * 3, (1 - rate[::4]) * 3)[groups]
        metric = mixed_share(sample, mix, true, generator.random(360) < rate)
        held += metric.low <= float(rates @ shares) <= metric.high
    assert held >= 279
