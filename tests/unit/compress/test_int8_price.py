"""Prices: closed forms, and what counts as a broken contract."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.compress.images import Prepared, round_the_classes
from sortal.compress.judge import broken_clauses, class_recalls, macro_drop, price
from sortal.compress.pricing import Budget
from sortal.compress.speed import is_faster, time_ratio
from sortal.core.contract import Contract
from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits

LABELS = LabelSet(names=("blue", "red", "unused"))


def _answers(index: np.ndarray, *, sure: float = 4.0, threshold: float = 0.0) -> Predictions:
    logits = np.zeros((len(index), 3), np.float32)
    logits[np.arange(len(index)), index] = sure
    names = [f"{row}" for row in range(len(index))]
    decision = DecisionSpec(threshold=threshold)
    return predictions_from_logits(logits, names=names, labels=LABELS, decision=decision, bundle_id="x")


def _images(labels: np.ndarray) -> Prepared:
    names = tuple(f"{row}" for row in range(len(labels)))
    pixels = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return Prepared(pixels=pixels, labels=labels, names=names, groups=None)


TRUE = np.array([0] * 90 + [1] * 10)
WORSE = TRUE.copy()
WORSE[[90, 91]] = 0
"""Two of ten red images are lost: 2 points of accuracy, 10 of macro accuracy."""


def test_drops_are_points_of_accuracy_and_of_mean_recall() -> None:
    cost = price(_answers(TRUE), _answers(WORSE), _images(TRUE))
    assert cost.accuracy.value == pytest.approx(0.98)
    assert cost.accuracy_drop.value == pytest.approx(2.0)
    assert cost.macro_drop.value == pytest.approx(10.0)
    assert cost.drop == pytest.approx(10.0)
    assert cost.flips.tolist() == [90, 91]
    low, high = cost.accuracy_drop.low, cost.accuracy_drop.high
    assert low is not None
    assert high is not None
    assert low < 2.0 < high
    np.testing.assert_allclose(cost.recalls[1], [1.0, 0.8, np.nan])


def test_equal_answers_cost_nothing_but_the_interval_stays_open() -> None:
    cost = price(_answers(WORSE), _answers(WORSE), _images(TRUE))
    assert cost.drop == 0.0
    assert cost.moved == cost.expected_flips == 0.0
    assert len(cost.flips) == 0
    assert cost.accuracy_drop.high is not None
    assert cost.accuracy_drop.high > 1.0


def test_a_flip_is_also_an_answer_that_is_not_given_any_more() -> None:
    cost = price(_answers(TRUE, threshold=0.9), _answers(TRUE, sure=2.0, threshold=0.9), _images(TRUE))
    assert cost.drop == 0.0
    assert len(cost.flips) == len(TRUE)


def test_recalls() -> None:
    recalls = class_recalls(np.array([0, 0, 1]), np.array([True, False, True]), 3)
    np.testing.assert_allclose(recalls, [0.5, 1.0, np.nan])


def test_groups_widen_the_interval_of_macro_accuracy() -> None:
    labels = np.ones(200, np.int64)
    right = np.ones(200, bool), np.arange(200) >= 40  # two of ten groups are lost as a whole
    alone = macro_drop(labels, right, 3, None, 0.95)
    together = macro_drop(labels, right, 3, np.arange(200) // 20, 0.95)
    assert alone.value == together.value == pytest.approx(20.0)
    assert (together.high or 0) - (together.low or 0) > (alone.high or 0) - (alone.low or 0)


def test_a_recall_floor_is_held_even_where_accuracy_is_within_the_budget() -> None:
    contract = Contract(recall={"red": 0.9})
    broken = broken_clauses(contract, _answers(TRUE), _answers(WORSE), _images(TRUE), (1_000, 300))
    assert broken == ("recall.red",)
    budget = Budget(max_drop=50.0, contract=contract)
    cost = price(_answers(TRUE), _answers(WORSE), _images(TRUE), contract=contract)
    assert budget.objection(cost) == "breaks recall.red"
    assert Budget(max_drop=50.0).holds(price(_answers(TRUE), _answers(WORSE), _images(TRUE)))
    assert "loses 10.00 points" in Budget(max_drop=1.0).objection(price(_answers(TRUE), _answers(WORSE), _images(TRUE)))


def test_a_clause_that_the_original_misses_too_is_no_fault_of_int8() -> None:
    contract = Contract(recall={"red": 0.95}, max_size_mb=0.0005)
    assert broken_clauses(contract, _answers(WORSE), _answers(WORSE), _images(TRUE), (1_000, 300)) == ()


def test_calibration_goes_round_the_classes() -> None:
    labels = np.array([0] * 100 + [1] * 3 + [2] * 50)
    chosen = round_the_classes(labels, 13)
    assert np.bincount(labels[chosen]).tolist() == [5, 3, 5]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(round_the_classes(labels, 1_000)) == len(labels)


def test_faster_means_the_whole_interval() -> None:
    before = np.full(40, 10.0)
    noise = np.random.default_rng(0).normal(0, 0.5, 40)
    assert is_faster(time_ratio(before, 6.0 + noise))
    assert not is_faster(time_ratio(before, 10.0 + noise))
    assert not is_faster(time_ratio(before, 14.0 + noise))
    assert not is_faster(time_ratio(before[:3], np.full(3, 5.0)))  # three rounds bound nothing
