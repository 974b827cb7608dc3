"""Learning curves against closed forms: power laws recover themselves, subsets have their sizes, doubt is said."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.evaluate.learning import PowerLaw, class_gains, fit_power_law, points, project, subset

IMAGES = np.array([1.0, 2, 4, 8, 16, 32, 64])


def wrong_at(errors: np.ndarray, *, judged: int = 1000, draws: int = 3) -> list[np.ndarray]:
    """(R, V) flags whose shares are about `errors`, drawn at random."""
    random = np.random.default_rng(0)
    return [random.random((draws, judged)) < error for error in errors]


@pytest.mark.parametrize(("floor", "exponent"), [(0.0, 0.5), (0.02, 0.7), (0.05, 1.0)])
@pytest.mark.parametrize("judged", [None, 500])
def test_a_power_law_recovers_itself(floor: float, exponent: float, judged: int | None) -> None:
    truth = PowerLaw(floor=floor, scale=0.5, exponent=exponent)
    found = fit_power_law(IMAGES, truth(IMAGES), judged=judged)
    assert found(IMAGES) == pytest.approx(truth(IMAGES), abs=0.004)
    assert float(found(256.0)) == pytest.approx(float(truth(256.0)), abs=0.008)
    assert found.exponent == pytest.approx(exponent, abs=0.06)


def test_sure_errors_weigh_more_than_unsure_ones() -> None:
    errors = PowerLaw(floor=0.01, scale=0.4, exponent=0.8)(IMAGES)
    errors[1] = 0.5  # few images a class are a lottery
    weighted, equal = (fit_power_law(IMAGES, errors, judged=judged) for judged in (1000, None))
    misses = [np.abs(law(IMAGES) - errors)[-3:].max() for law in (weighted, equal)]
    assert misses[0] < misses[1]


@pytest.mark.parametrize("error", [0.0, 0.03, 0.5])
def test_a_flat_curve_promises_nothing(error: float) -> None:
    law = fit_power_law(IMAGES, np.full(7, error), judged=200)
    assert float(law(128.0)) == pytest.approx(error, abs=0.01)
    assert float(law.left(64.0, 2.0)) == pytest.approx(1.0, abs=0.04)


def test_three_points_leave_no_floor() -> None:
    assert fit_power_law(IMAGES[:3], np.array([0.4, 0.3, 0.25])).floor == 0.0


def test_projections_begin_at_what_was_measured_and_say_how_sure_they_are() -> None:
    errors = PowerLaw(floor=0.0, scale=0.5, exponent=0.5)(IMAGES)
    wrong = wrong_at(errors)
    few, many = (project(IMAGES, wrong_at(errors, judged=judged), (2.0, 4.0), seed=1) for judged in (100, 3000))
    twice, four = project(IMAGES, wrong, (2.0, 4.0), seed=1)
    now = float(wrong[-1].mean())
    assert (twice.images, four.images) == (128.0, 256.0)
    assert twice.error == pytest.approx(now - twice.gain)
    assert twice.error == pytest.approx(now * 2**-0.5, abs=0.006), "the error falls by sqrt(2)"
    assert four.error == pytest.approx(now / 2, abs=0.008)
    assert twice.low < twice.error < twice.high
    assert 0 <= twice.gain_low < twice.gain < twice.gain_high
    assert many[0].high - many[0].low < few[0].high - few[0].low
    assert project(IMAGES, wrong, (2.0,), seed=1) == [twice]


def test_no_error_on_few_images_is_no_proof_of_perfection() -> None:
    wrong = [*wrong_at(np.array([0.5, 0.3, 0.1, 0.05]), judged=50), np.zeros((1, 50), bool)]
    (twice,) = project(IMAGES[:5], wrong, (2.0,), seed=0)
    assert (twice.error, twice.gain) == (0.0, 0.0)
    assert 0.002 < twice.high < 0.1


def test_gains_of_classes() -> None:
    law = PowerLaw(floor=0.0, scale=0.5, exponent=1.0)
    counts, held = np.array([10, 10, 10, 1000]), np.array([100, 100, 0, 2])
    gains = class_gains(law, counts, wrong=np.array([40, 10, 0, 0]), held=held)
    assert np.isnan(gains[2]), "nobody judges it"
    overall = 50 / 202
    assert gains[0] == pytest.approx((40 + 4 * overall) / 104 / 2), "twice the images leave half the error"
    assert gains[0] > gains[1] > 0
    assert 0 < gains[3] < overall, "two right answers do not prove that nothing is left to learn"


def test_no_class_gains_from_a_law_that_has_reached_its_floor() -> None:
    gains = class_gains(
        PowerLaw(floor=0.2, scale=0.0, exponent=1.0), np.array([5, 9]), np.array([1, 2]), np.array([5, 5])
    )
    assert gains.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("counts", "tried"),
    [([40, 40, 40], [1, 2, 4, 8, 16, 40]), ([2, 2], [1, 2]), ([1, 500, 0, 9], [1, 2, 4, 9]), ([1], [1])],
)
def test_points(counts: list[int], tried: list[int]) -> None:
    assert points(np.array(counts)) == tried


def test_subsets_take_so_many_of_each_class_and_other_ones_each_time() -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 50])
    first, second = (subset(labels, 5, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.bincount(labels[first]).tolist() == [5, 3, 5]
    assert len(np.unique(first)) == 13
    assert np.all(np.diff(first) > 0)
    assert first.tolist() != second.tolist()
    drawn = np.concatenate([subset(labels, 1, np.random.default_rng(seed)) for seed in range(300)])
    assert np.bincount(drawn[labels[drawn] == 0], minlength=10).min() > 10, "every image of a class has its chance"
