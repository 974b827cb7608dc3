"""Calibration against known truths, SciPy's minimizer, scikit-learn's scores and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from sortal.core.decision import DecisionSpec, answers, probabilities
from sortal.evaluate.trust.calibration import (
    PRIOR_IMAGES,
    RANGE,
    calibrate,
    fit_temperature,
    logits_of,
    uncalibrated,
)
from sortal.evaluate.trust.calibration import _fit_with_bias as fit_with_bias
from sortal.evaluate.trust.reliability import (
    brier_scores,
    classwise_error,
    draw_reliability,
    log_losses,
    reliability,
    reliability_table,
)


def made(
    n: int, classes: int, temperature: float, *, bias: np.ndarray | None = None, key: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from softmax(logits / temperature + bias)."""
    random = np.random.Generator(np.random.Philox(key=key))
    logits = (3 * random.normal(size=(n, classes))).astype(np.float32)
    chances = softmax(logits / temperature + (0.0 if bias is None else bias), axis=1)
    return logits, (chances.cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, labels = made(20_000, 5, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_is_the_minimum_that_scipy_finds() -> None:
    logits, labels = made(300, 4, 1.7, key=1)

    def loss(scale: float) -> float:
        own = log_softmax(scale * logits.astype(np.float64), axis=1)[np.arange(300), labels]
        return float(-own.sum() + PRIOR_IMAGES * (scale - 1 - np.log(scale)))

    best = minimize_scalar(loss, bounds=RANGE, method="bounded", options={"xatol": 1e-10}).x
    assert 1 / fit_temperature(logits, labels) == pytest.approx(best, rel=1e-5)


def test_temperature_and_bias_are_the_minimum_that_scipy_finds() -> None:
    logits, labels = made(400, 3, 1.4, bias=np.array([0.0, 1.0, -1.0]), key=2)
    centered = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)

    def loss(x: np.ndarray) -> float:
        own = log_softmax(x[0] * centered + x[1:], axis=1)[np.arange(400), labels]
        return float(-own.sum() + PRIOR_IMAGES * (x[0] - 1 - np.log(x[0])) + 3.0 / 2 * np.square(x[1:]).sum())

    best = minimize(loss, np.array([1.0, 0.0, 0.0, 0.0]), method="BFGS", options={"gtol": 1e-8}).x
    scale, bias = fit_with_bias(centered, labels, 3.0)
    np.testing.assert_allclose([scale, *bias], best, atol=2e-5)


def test_separable_and_single_images_stay_in_range() -> None:
    logits = np.eye(4, dtype=np.float32)[np.arange(200) % 4] * 20
    assert RANGE[0] < 1 / fit_temperature(logits, np.arange(200) % 4) < RANGE[1]
    assert fit_temperature(logits[:1], np.array([0])) == pytest.approx(1.0, abs=0.05)
    assert fit_temperature(logits[:1], np.array([1])) > 1.0
    hopeless = fit_temperature(logits, (np.arange(200) + 1) % 4)
    assert 1.0 < hopeless <= 1 / RANGE[0] + 1e-9
    assert np.isfinite(fit_temperature(np.full((50, 3), 1e4, np.float32), np.zeros(50, np.int64)))
    assert calibrate(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)).decision() == DecisionSpec()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 10**6))
def test_a_temperature_never_changes_an_answer(n: int, classes: int, key: int) -> None:
    logits, labels = made(n, classes, 1.0, key=key)
    found = calibrate(logits, labels, with_bias=False)
    assert found.bias is None
    plain, fitted = DecisionSpec(), found.decision()
    np.testing.assert_array_equal(
        answers(plain, probabilities(plain, logits)), answers(fitted, probabilities(fitted, logits))
    )


def test_a_bias_is_taken_where_it_helps_and_left_where_it_is_noise() -> None:
    shift = np.array([1.5, 0.0, -1.5])
    found = calibrate(*made(2_000, 3, 1.3, bias=shift, key=3))
    assert found.bias is not None
    np.testing.assert_allclose(found.bias, shift, atol=0.25)
    assert found.temperature == pytest.approx(1.3, rel=0.1)
    taken = [calibrate(*made(400, 6, 1.3, key=key)).bias is not None for key in range(20)]
    assert sum(taken) <= 2
    assert calibrate(*made(60, 3, 1.3, bias=shift)).bias is None
    assert calibrate(*made(2_000, 3, 1.3, bias=shift), with_bias=False).bias is None


def test_a_bias_that_helps_one_group_only_is_within_noise() -> None:
    """All images of the shifted class mix are one group: held-out groups gain nothing for sure."""
    logits, labels = made(600, 3, 1.0, key=4)
    other, shifted = made(300, 3, 1.0, bias=np.array([3.0, 0.0, -3.0]), key=5)
    logits, labels = np.concatenate([logits, other]), np.concatenate([labels, shifted])
    apart = calibrate(logits, labels)
    joined = calibrate(logits, labels, units=np.concatenate([np.arange(600), np.full(300, 600)]))
    assert apart.bias is not None
    assert joined.bias is None


def test_what_was_calibrated_can_be_taken_back() -> None:
    logits, _ = made(50, 4, 1.0)
    spec = DecisionSpec(temperature=2.2, bias=(0.3, -0.3, 1.0, 0.0))
    np.testing.assert_allclose(uncalibrated(spec, probabilities(spec, logits)), softmax(logits, axis=1), atol=1e-5)
    centered = logits - logits.max(axis=1, keepdims=True)
    np.testing.assert_allclose(logits_of(spec, probabilities(spec, logits)), centered, atol=2e-4)


def test_calibrated_probabilities_err_by_chance_alone() -> None:
    logits, labels = made(20_000, 5, 1.0)
    chances = softmax(logits, axis=1)
    curve = reliability(chances.max(axis=1), chances.argmax(axis=1) == labels)
    assert curve.error < 0.01
    assert curve.error == pytest.approx(curve.by_chance, rel=0.7)
    assert curve.debiased < 0.006
    assert classwise_error(chances.astype(np.float32), labels) < 0.01
    sure = softmax(3 * logits, axis=1)
    off = reliability(sure.max(axis=1), sure.argmax(axis=1) == labels)
    assert off.error > 0.1
    assert off.debiased == pytest.approx(
        np.sqrt(np.average((off.stated - off.right) ** 2, weights=off.images)), rel=0.1
    )
    assert np.mean((curve.low <= curve.stated) & (curve.stated <= curve.high)) >= 0.7


def test_closed_forms_of_bins() -> None:
    stated, right = np.repeat([0.6, 0.9], 50), np.concatenate([np.arange(50) < 40, np.arange(50) < 40])
    curve = reliability(stated, right, bins=15)
    assert curve.images.tolist() == [50, 50], "equal probabilities are not divided"
    assert curve.error == pytest.approx((0.2 + 0.1) / 2)
    assert curve.by_chance == pytest.approx(np.sqrt(2 / np.pi / 50) * (np.sqrt(0.24) + np.sqrt(0.09)) / 2)
    order = np.random.Generator(np.random.Philox(key=1)).permutation(100)
    assert reliability(stated[order], right[order]).error == pytest.approx(curve.error)
    spread = reliability(np.linspace(0.2, 1.0, 150), np.ones(150, bool))
    assert spread.images.tolist() == [10] * 15
    assert reliability(np.zeros(0), np.zeros(0, bool)).error == 0.0
    assert len(reliability_table(spread).rows) == 15


def test_scores_are_those_of_scikit_learn() -> None:
    logits, labels = made(300, 4, 1.0)
    chances = softmax(logits.astype(np.float64), axis=1)
    assert log_losses(chances.astype(np.float32), labels).mean() == pytest.approx(log_loss(labels, chances), rel=1e-6)
    truth = np.eye(4)[labels]
    expected = np.square(chances - truth).sum(axis=1)
    np.testing.assert_allclose(brier_scores(chances.astype(np.float32), labels), expected, atol=1e-6)
    assert log_losses(np.array([[0.0, 1.0]], np.float32), np.array([0]))[0] == pytest.approx(36.04, abs=0.01)


def test_calibration_halves_the_error_of_a_sure_network(tmp_path: Path) -> None:
    logits, labels = made(3_000, 5, 3.0)
    found = calibrate(logits[:1_500], labels[:1_500]).decision()
    rest, truth = logits[1_500:], labels[1_500:]
    before, after = (probabilities(spec, rest) for spec in (DecisionSpec(), found))
    curves = [reliability(part.max(axis=1), part.argmax(axis=1) == truth) for part in (before, after)]
    assert curves[1].error < 0.25 * curves[0].error
    draw_reliability(curves[1], tmp_path / "reliability.png", before=curves[0])
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
