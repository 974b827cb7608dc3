"""Tables of robustness from answers whose numbers are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.core.errors import InputError
from sortal.evaluate.robustness.study import Answers, corruption_names, sample
from sortal.evaluate.robustness.summary import (
    fragile_classes,
    robustness_findings,
    robustness_metrics,
    robustness_table,
)


def answers(n: int = 40) -> Answers:
    """All right when clean. Blur costs class 1 all of its images from strength 3 on, of which half are not answered;
    nothing else costs anything."""
    labels = np.arange(n) % 2
    index = np.tile(labels, (2, 5, 1))
    given = np.ones((2, 5, n), bool)
    index[0, 2:, labels == 1] = 0
    given[0, 2:, np.flatnonzero(labels == 1)[::2]] = False
    return Answers(
        names=("gaussian_blur", "jpeg"),
        rows=np.arange(n),
        labels=labels,
        clean=labels,
        clean_given=np.ones(n, bool),
        index=index,
        given=given,
    )


def test_each_row_says_what_is_lost_and_whether_it_was_noticed() -> None:
    table = robustness_table(answers(), 0.95)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert len(rows) == 10
    blurred = rows[2]
    assert (blurred["corruption"], blurred["strength"]) == ("gaussian_blur", 3)
    assert blurred["accuracy"] == 0.5
    assert blurred["accuracy_lost"] == 0.5
    assert blurred["coverage"] == 0.75
    assert blurred["error"] == pytest.approx(10 / 30)
    assert blurred["accuracy_low"] < 0.5 < blurred["accuracy_high"]
    assert rows[1]["accuracy_lost"] == 0


def test_an_error_of_no_answer_is_no_number() -> None:
    nothing = answers()
    nothing.given[:] = False
    assert {row[-1] for row in robustness_table(nothing, 0.95).rows} == {None}


def test_the_mean_over_corruptions_and_strengths_has_an_interval() -> None:
    found = robustness_metrics(answers(), 0.95)
    assert found["clean_accuracy"].value == 1.0
    assert found["corrupted_accuracy"].value == pytest.approx(1 - 3 / 10 * 0.5)
    low, high = found["corrupted_accuracy"].low, found["corrupted_accuracy"].high
    assert low is not None
    assert high is not None
    assert low < 0.85 < high
    assert found["corruption_retained"].value == pytest.approx(0.85)


def test_the_class_that_loses_most_comes_first_with_what_hurts_it() -> None:
    table = fragile_classes(answers(), ("ok", "裂纹"))
    assert table.rows[0] == (
        "裂纹",
        20,
        1.0,
        pytest.approx(0.7),
        pytest.approx(0.3),
        "gaussian_blur",
        pytest.approx(0.4),
    )
    assert table.rows[1][4] == 0


def test_only_what_surely_costs_accuracy_is_a_finding() -> None:
    (found,) = robustness_findings(answers(), 0.95)
    assert "gaussian_blur (50%)" in found.message
    assert "jpeg" not in found.message
    assert robustness_findings(answers(2), 0.95) == []  # one image a class shows nothing


def test_a_sample_takes_from_every_class_in_turn() -> None:
    labels = np.array([0] * 90 + [1] * 5 + [2] * 5 + [-1] * 10)
    found = labels[sample(labels, 20, seed=0)]
    assert np.bincount(found).tolist() == [10, 5, 5]
    assert sample(labels, 1000, seed=0).tolist() == list(range(100))
    assert sample(labels, 20, seed=0).tolist() == sample(labels, 20, seed=0).tolist()


def test_an_unknown_corruption_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="gaussian_blur"):
        corruption_names(["gausian_blur"])
    assert corruption_names(["jpeg"]) == ("jpeg",)
