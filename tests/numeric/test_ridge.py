"""Ridge regression heads against their definition, refits and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as ReferenceRidge

from sortal.train.ridge import Ridge, balanced_scales, best_factor, choose_ridge, fit_ridge

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 60)
FEATURES = RANDOM.normal(size=(60, 12)) + 0.8 * np.eye(12)[LABELS] + 5.0
OTHERS = RANDOM.normal(size=(9, 12)) + 5.0


def penalty(strength: float) -> float:
    """The strength is a multiple of the mean over features of their summed squares."""
    return strength * float(np.square(FEATURES - FEATURES.mean(0)).sum() / FEATURES.shape[1])


@pytest.mark.parametrize("strength", [0.02, 0.5])
def test_scores_are_those_of_scikit_learn(strength: float) -> None:
    reference = ReferenceRidge(alpha=penalty(strength)).fit(FEATURES, np.eye(3)[LABELS])
    assert np.allclose(Ridge(FEATURES, LABELS, 3).scores(strength, OTHERS), reference.predict(OTHERS), atol=1e-10)


def test_left_out_scores_are_those_of_fits_without_the_image() -> None:
    left_out = Ridge(FEATURES, LABELS, 3).left_out(0.3)
    for row in (0, 7, 59):
        kept = np.arange(60) != row
        refit = ReferenceRidge(alpha=penalty(0.3)).fit(FEATURES[kept], np.eye(3)[LABELS[kept]])
        assert np.allclose(left_out[row], refit.predict(FEATURES[[row]])[0], atol=1e-10)


def test_weights_count_images_as_copies_do() -> None:
    twice = np.concatenate([FEATURES, FEATURES[:20]])
    weights = np.ones(60)
    weights[:20] = 2.0
    copies = ReferenceRidge(alpha=4.0).fit(twice, np.eye(3)[np.concatenate([LABELS, LABELS[:20]])])
    mean = (weights[:, None] * FEATURES).sum(0) / weights.sum()
    unit = float((weights[:, None] * np.square(FEATURES - mean)).sum() / 12)
    weighed = Ridge(FEATURES, LABELS, 3, weights=weights).scores(4.0 / unit, OTHERS)
    assert np.allclose(weighed, copies.predict(OTHERS), atol=1e-10)


def test_the_factor_makes_logits_and_changes_no_answer() -> None:
    problem = Ridge(FEATURES, LABELS, 3)
    scores = problem.scores(0.2, OTHERS)
    factor, loss = best_factor(problem.left_out(0.2), LABELS)
    logits = problem.head(0.2, factor).logits(OTHERS)
    assert np.allclose(logits, factor * scores, atol=1e-4)
    assert np.array_equal(logits.argmax(1), scores.argmax(1))
    unscaled = problem.left_out(0.2)
    plain = np.log(np.exp(unscaled).sum(1)) - unscaled[np.arange(60), LABELS]
    assert factor > 1
    assert loss < float(plain.mean())


def test_the_strength_with_the_lowest_loss_is_chosen_and_fitted_again_the_same() -> None:
    choice = choose_ridge(FEATURES[:40], LABELS[:40], FEATURES[40:], LABELS[40:], 3)
    assert choice.strength == min(choice.tried, key=lambda row: row[1])[0]
    again = fit_ridge(FEATURES[:40], LABELS[:40], 3, strength=choice.strength, factor=choice.factor)
    assert np.array_equal(again.weight, choice.head.weight)
    alone = choose_ridge(FEATURES, LABELS, FEATURES[:0], LABELS[:0], 3)  # leave-one-out where nothing is held out
    assert alone.tried[0][2] == pytest.approx((Ridge(FEATURES, LABELS, 3).left_out(0.02).argmax(1) == LABELS).mean())


def test_parts_get_equal_variance_and_later_ones_half_the_spread() -> None:
    features = np.concatenate([100 * RANDOM.normal(size=(50, 3)), 0.01 * RANDOM.normal(size=(50, 5))], 1)
    scaled = features * balanced_scales(features, (3, 5))
    assert scaled[:, :3].var(0).sum() == pytest.approx(1.0)
    assert scaled[:, 3:].var(0).sum() == pytest.approx(0.25)
