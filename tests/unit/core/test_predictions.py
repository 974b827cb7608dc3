"""Predictions: arrays of answers that keep unreadable images apart from answers."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.core.conformal import ConformalScores
from sortal.core.decision import DecisionSpec, UnknownSpec
from sortal.core.errors import InputError, MissingExtraError
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits

LABELS = LabelSet(names=("nut", "screw", "垫圈"))


def predict(logits: object, **fields: object) -> Predictions:
    values = np.asarray(logits, np.float32).reshape(-1, 3)
    given_fields = {"labels": LABELS, "decision": DecisionSpec(), "bundle_id": "b"} | fields
    return predictions_from_logits(values, names=[f"{n}.jpg" for n in range(len(values))], **given_fields)


def test_answers_probabilities_and_margin() -> None:
    found = predict([[0, 3, 0], [1, 1, 1]])
    assert found.answers() == ["screw", "nut"]
    assert found.index.dtype == np.int64
    assert found.probability[0] == pytest.approx(np.e**3 / (np.e**3 + 2), rel=1e-6)
    assert found.margin.tolist() == pytest.approx([(np.e**3 - 1) / (np.e**3 + 2), 0.0], abs=1e-6)


def test_unreadable_images_have_no_answer_and_no_score() -> None:
    found = predict(
        [[0, 3, 0], [9, 0, 0]], errors={1: ("truncated", "the data ends early")}, decision=DecisionSpec(threshold=1)
    )
    assert found.answers() == ["screw", None]
    assert np.isnan(found.probabilities[1]).all()
    assert found.abstained.tolist() == [True, False]
    frame = found.to_polars()
    assert frame["error"].to_list() == [None, "truncated: the data ends early"]
    for column in ("label", "probability", "margin", "p_nut"):
        assert frame[column][1] is None


def test_nothing_asked_nothing_answered() -> None:
    found = predict([])
    assert len(found) == 0
    assert found.answers() == []
    assert found.margin.shape == found.probability.shape == (0,)
    assert found.to_polars().shape == (0, 9)


def test_one_class_is_always_certain() -> None:
    labels = LabelSet(names=("only",))
    found = predictions_from_logits(
        np.zeros((2, 1), np.float32), names=["a", "b"], labels=labels, decision=DecisionSpec(), bundle_id="b"
    )
    assert found.probability.tolist() == found.margin.tolist() == [1.0, 1.0]
    assert found.top_k(5)[0].shape == (2, 1)


@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=6), st.integers(1, 4))
def test_top_k_is_sorted_and_ties_go_to_the_lower_index(rows: list[tuple[int, ...]], k: int) -> None:
    found = predict(rows)
    index, chance = found.top_k(k)
    assert index.shape == chance.shape == (len(rows), min(k, 3))
    assert (np.diff(chance, axis=1) <= 0).all()
    for row, given_row in zip(index, rows, strict=True):
        assert row.tolist() == sorted(range(3), key=lambda column: (-given_row[column], column))[:k]
    assert (index[:, 0] == found.index).all()


def test_columns_and_types_for_tables() -> None:
    frame = predict([[0, 3, 0]]).to_polars()
    assert frame.columns == [
        "image",
        "label",
        "probability",
        "margin",
        "abstained",
        "error",
        "p_nut",
        "p_screw",
        "p_垫圈",
    ]
    assert predict([[0, 3, 0]]).to_polars(scores=False).width == 6
    assert frame["error"].dtype == frame["label"].dtype


@pytest.mark.skipif(importlib.util.find_spec("pandas") is not None, reason="pandas is installed")
def test_pandas_is_optional() -> None:
    with pytest.raises(MissingExtraError, match="sortal\\[pandas\\]"):
        predict([[0, 3, 0]]).to_pandas()


def test_unknown_scores_become_a_column_and_unreadable_rows_have_none() -> None:
    found = predictions_from_logits(
        np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]], np.float32),
        names=["a", "b", "c"],
        labels=LabelSet(names=("ok", "crack")),
        decision=DecisionSpec(unknown=UnknownSpec(method="energy", threshold=0.5)),
        bundle_id="",
        errors={2: ("empty", "zero bytes")},
        unknown_score=np.array([0.1, 0.9, 0.9], np.float32),
    )
    assert found.unknown is not None
    assert found.unknown.tolist() == [False, True, False]
    assert found.abstained.tolist() == [False, True, False]
    frame = found.to_polars()
    assert frame["unknown"].to_list() == [False, True, False]
    assert frame["unknown_score"].to_list() == [pytest.approx(0.1), pytest.approx(0.9), None]


def test_sets_hold_the_classes_that_are_not_ruled_out() -> None:
    scores = ConformalScores(scores=np.linspace(0.1, 0.7, 99), labels=np.zeros(99, np.int64))
    logits = np.log([[0.5, 0.4, 0.1], [0.35, 0.34, 0.31], [0.1, 0.8, 0.1]])
    found = predict(logits, conformal=scores, errors={2: ("truncated", "the data ends early")})
    assert found.sets(0.9) == [("nut", "screw"), (), ()]
    assert found.to_polars(sets=0.9)["set"].to_list() == ["nut|screw", "", ""]
    assert all(len(own) <= 3 for own in found.sets(0.999))
    with pytest.raises(InputError, match="between 0 and 1"):
        found.sets(1.5)


def test_without_calibration_scores_there_are_no_sets() -> None:
    with pytest.raises(InputError, match="no calibration scores"):
        predict([[0, 3, 0]]).sets(0.9)


def test_an_unsure_class_backs_off_to_its_family_and_a_stranger_to_a_person() -> None:
    chances = np.array([[0.9, 0.05, 0.05], [0.45, 0.44, 0.11], [0.4, 0.1, 0.5], [0.98, 0.01, 0.01]], np.float32)
    found = predictions_from_logits(
        np.log(chances),
        names=["a", "b", "c", "d"],
        labels=LabelSet(names=("M6", "M8", "gear"), parents=("bolt", "bolt", "齿轮")),
        decision=DecisionSpec(unknown=UnknownSpec(method="energy", threshold=0.5)),
        bundle_id="",
        unknown_score=np.array([0.0, 0.0, 0.0, 0.9], np.float32),
    )
    expected = [("M6", "class"), ("bolt", "family"), (None, "person"), (None, "person")]
    assert found.backed_off(0.8) == expected
    frame = found.to_polars(back_off=0.8)
    assert list(zip(frame["back_off"], frame["back_off_level"], strict=True)) == expected


def test_without_families_there_is_nothing_to_back_off_to() -> None:
    with pytest.raises(InputError, match="no families"):
        predict([[0.0, 1.0, 0.0]]).backed_off(0.5)
