"""The risk-coverage curve against its closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sortal.evaluate.trust.risk_coverage import (
    coverage_at,
    draw_risk_coverage,
    least_area,
    risk_at,
    risk_coverage,
    risk_coverage_table,
)


def test_the_best_order_has_the_least_area() -> None:
    wrong = np.zeros(1_000, bool)
    wrong[900:] = True
    curve = risk_coverage(-np.arange(1_000.0), wrong)
    assert curve.aurc == pytest.approx(least_area(1_000, 100))
    assert curve.aurc == pytest.approx(0.1 + 0.9 * np.log(0.9), abs=1e-3)
    assert curve.excess == pytest.approx(0.0, abs=1e-12)


def test_equal_sureness_is_a_random_order() -> None:
    wrong = np.arange(200) % 4 == 0
    curve = risk_coverage(np.full(200, 0.7), wrong)
    np.testing.assert_allclose(curve.risk, 0.25)
    assert curve.aurc == pytest.approx(0.25)
    shuffled = np.random.Generator(np.random.Philox(key=0)).permutation(200)
    ties = np.round(np.linspace(0, 1, 200), 1)
    assert risk_coverage(ties[shuffled], wrong[shuffled]).aurc == pytest.approx(risk_coverage(ties, wrong).aurc)


def test_a_curve_by_hand() -> None:
    curve = risk_coverage(np.array([0.5, 0.9, 0.8, 0.6]), np.array([True, False, True, False]))
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    np.testing.assert_allclose(curve.scores, [0.9, 0.8, 0.6, 0.5])
    assert risk_at(curve, 0.75) == (pytest.approx(1 / 3), 0.6)
    assert coverage_at(curve, 0.4) == 0.75
    assert coverage_at(curve, 0.0) == 0.25
    assert curve.aurc == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_no_images_no_risk() -> None:
    curve = risk_coverage(np.zeros(0), np.zeros(0, bool))
    assert (curve.aurc, curve.excess, risk_at(curve, 0.5), coverage_at(curve, 0.1)) == (0.0, 0.0, (0.0, 0.0), 0.0)
    assert risk_coverage_table(curve).rows == ()


def test_table_and_picture(tmp_path: Path) -> None:
    random = np.random.Generator(np.random.Philox(key=1))
    sure = random.random(500)
    curve = risk_coverage(sure, random.random(500) < 0.3 * (1 - sure) ** 2)
    table = risk_coverage_table(curve)
    assert table.rows[-1][:2] == (1.0, 500)
    for row in table.rows:
        assert row[3] <= row[2] <= row[4]  # type: ignore[operator]
    draw_risk_coverage(curve, tmp_path / "a.png", chosen=(0.8, 0.02), max_error=0.02, min_coverage=0.9)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
