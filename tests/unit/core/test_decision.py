"""DecisionSpec: from logits to an answer or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy.special import softmax

from sortal.core.canonical import pretty
from sortal.core.decision import DecisionSpec, UnknownSpec, abstains, decide, probabilities

logits = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-1e4, 1e4, width=32)
)


def test_the_golden_file_is_read_and_written_unchanged(golden: Path) -> None:
    raw = (golden / "decision.json").read_text(encoding="utf-8")
    spec = DecisionSpec.model_validate_json(raw)
    assert spec.unknown == UnknownSpec(method="energy", threshold=-3.5)
    assert spec.costs is not None
    assert spec.costs[2][0] == 5.0
    assert pretty(spec.model_dump(mode="json")) == raw


@given(logits, st.floats(0.05, 20.0))
def test_probabilities_are_a_tempered_softmax(values: np.ndarray, temperature: float) -> None:
    found = probabilities(DecisionSpec(temperature=temperature), values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax(values.astype(np.float64) / temperature, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)


def test_bias_is_added_after_the_temperature() -> None:
    spec = DecisionSpec(temperature=2.0, bias=(0.0, 1.0))
    found = probabilities(spec, np.array([[2.0, 0.0]], np.float32))
    np.testing.assert_allclose(found, [[0.5, 0.5]], atol=1e-7)


def test_the_logits_are_not_changed() -> None:
    values = np.ones((2, 3), np.float32)
    probabilities(DecisionSpec(bias=(1.0, 2.0, 3.0)), values)
    assert (values == 1).all()


def test_thresholds_for_all_and_for_one_class() -> None:
    spec = DecisionSpec(threshold=0.5, class_thresholds=(0.0, 0.9))
    chance = np.array([0.5, 0.49, 0.89, 0.9], np.float32)
    assert abstains(spec, chance, np.array([0, 0, 1, 1])).tolist() == [False, True, True, True]
    assert not abstains(DecisionSpec(), np.zeros(3, np.float32), np.zeros(3, np.int64)).any()


def test_an_answer_of_little_cost_is_given_instead_of_the_likeliest() -> None:
    """A missed defect costs 50, a false alarm 1: at a 10 % chance of a defect the answer is the defect."""
    spec = DecisionSpec(costs=((0.0, 1.0), (50.0, 0.0)))
    values = np.log(np.array([[0.9, 0.1], [0.99, 0.01]], np.float32))
    found = decide(spec, values)
    assert found.index.tolist() == [1, 0]
    assert not found.abstained.any()


def test_where_a_person_is_cheaper_than_the_best_answer_the_person_decides() -> None:
    spec = DecisionSpec(costs=((0.0, 1.0), (50.0, 0.0)), cost_limit=0.6)
    values = np.log(np.array([[0.9, 0.1], [0.3, 0.7], [0.999, 0.001]], np.float32))
    assert decide(spec, values).abstained.tolist() == [True, False, False]


def test_an_unknown_image_is_abstained_and_a_score_that_is_no_number_is_unknown() -> None:
    spec = DecisionSpec(unknown=UnknownSpec(method="energy", threshold=1.0))
    values = np.zeros((3, 2), np.float32)
    found = decide(spec, values, np.array([1.0, 1.01, np.nan], np.float32))
    assert found.unknown.tolist() == [False, True, True]
    assert found.abstained.tolist() == [False, True, True]
    assert not decide(spec, values).unknown.any()


def test_a_limit_of_cost_is_written_where_it_is_set_and_read_again() -> None:
    spec = DecisionSpec(costs=((0.0, 1.0), (2.0, 0.0)), cost_limit=0.5)
    raw = pretty(spec.model_dump(mode="json"))
    assert DecisionSpec.model_validate_json(raw) == spec
    assert "cost_limit" not in DecisionSpec().model_dump(mode="json")


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0}, {"temperature": -1}, {"threshold": 1.1}, {"format": 2}, {"unknown": {"method": "magic"}}],
)
def test_values_without_a_meaning_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DecisionSpec.model_validate(fields)


def test_a_class_that_is_too_likely_to_be_passed_over_sends_the_image_away() -> None:
    spec = DecisionSpec(doubts=(1.0, 0.2, 1.0))
    values = np.log(np.array([[0.7, 0.25, 0.05], [0.75, 0.15, 0.1], [0.1, 0.8, 0.1], [0.1, 0.3, 0.6]], np.float32))
    decided = decide(spec, values)
    assert decided.index.tolist() == [0, 0, 1, 2]
    assert decided.abstained.tolist() == [True, False, False, True]
    assert not decided.unknown.any()


def test_doubts_are_written_only_where_there_are_any() -> None:
    assert "doubts" not in DecisionSpec().model_dump(mode="json")
    spec = DecisionSpec(doubts=(1.0, 0.25))
    assert DecisionSpec.model_validate(spec.model_dump(mode="json")) == spec
    with pytest.raises(ValidationError):
        DecisionSpec(doubts=(1.5, 0.0))
