"""Kappa against scikit-learn and the example of Fleiss (1971)."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from sortal.data.agreement import cohen_kappa, fleiss_kappa


def test_two_readers_as_scikit_learn_says() -> None:
    random = np.random.default_rng(1)
    one = random.integers(0, 4, 500)
    other = np.where(random.random(500) < 0.7, one, random.integers(0, 4, 500))
    found = cohen_kappa(one, other, 5)
    assert found.kappa == pytest.approx(cohen_kappa_score(one, other))
    assert found.items == 500
    assert found.same == pytest.approx((one == other).mean())
    drawn = []
    for _ in range(300):
        rows = random.integers(0, 500, 500)
        drawn.append(cohen_kappa_score(one[rows], other[rows]))
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.2)


def test_the_worked_example_of_fourteen_readers() -> None:
    """Ten items, five classes: kappa 0.210 (the example that textbooks print)."""
    counts = np.array(
        [
            [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
        ]
    )  # fmt: skip
    assert fleiss_kappa(counts).kappa == pytest.approx(0.210, abs=5e-4)


def test_items_read_once_do_not_count() -> None:
    counts = np.array([[2, 0], [1, 1], [0, 2], [1, 0]])
    found = fleiss_kappa(counts)
    assert found.items == 3
    assert found.kappa == pytest.approx(fleiss_kappa(counts[:3]).kappa)


def test_where_all_say_the_same_chance_leaves_nothing_to_judge() -> None:
    assert cohen_kappa(np.zeros(9, np.int64), np.zeros(9, np.int64), 2).kappa is None
    assert fleiss_kappa(np.zeros((0, 2), np.int64)).kappa is None
