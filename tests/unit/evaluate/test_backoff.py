"""The family where the kind is unsure: levels, ties, and the curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sortal.core.backoff import COARSE, FINE, PERSON, back_off
from sortal.evaluate.measure.backoff import back_off_curve, back_off_metrics, backed_off_right
from sortal.evaluate.measure.grouped import Sample

PARENTS = [0, 0, 1, 1]
CHANCES = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.4, 0.35, 0.15, 0.1], [0.3, 0.2, 0.3, 0.2], [0.4, 0.0, 0.3, 0.3]], np.float32
)


def test_class_family_or_person() -> None:
    found = back_off(CHANCES, PARENTS, 0.55)
    assert found.level.tolist() == [FINE, COARSE, PERSON, COARSE]
    assert found.answer.tolist() == [0, 0, -1, 1], "the family of the largest sum, not that of the likeliest class"
    assert found.probability == pytest.approx([0.7, 0.75, 0.5, 0.6])
    assert backed_off_right(found, np.array([1, 1, 0, 2]), PARENTS).tolist() == [False, True, False, True]


def test_shares_and_the_error_of_what_is_answered() -> None:
    labels = np.array([0, 1, 0, 0])
    metrics = back_off_metrics(Sample(size=4), CHANCES, labels, PARENTS, 0.55)
    values = {name: metric.value for name, metric in metrics.items()}
    assert values == {
        "back_off_fine": 0.25,
        "back_off_coarse": 0.5,
        "back_off_person": 0.25,
        "back_off_error": pytest.approx(1 / 3),
    }
    assert metrics["back_off_error"].n == 3
    nobody = back_off_metrics(Sample(size=4), CHANCES, labels, PARENTS, 1.0)
    assert nobody["back_off_error"].value is None


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_higher_threshold_never_answers_more_finely(first: float, second: float) -> None:
    low, high = sorted((first, second))
    generator = np.random.Generator(np.random.Philox(key=1))
    chances = generator.dirichlet(np.ones(4), 50).astype(np.float32)
    assert (back_off(chances, PARENTS, low).level <= back_off(chances, PARENTS, high).level).all()


def test_the_curve_starts_with_every_image_answered_by_class() -> None:
    table = back_off_curve(Sample(size=4), CHANCES, np.array([0, 0, 0, 2]), PARENTS)
    assert table.rows[0][:5] == (0.0, 1.0, 0.0, 0.0, 0.25)
    shares = np.array([row[1:4] for row in table.rows], float)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
