from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sortal.core.errors import DataError
from sortal.train.probe import STRENGTHS, LinearHead, choose_strength, cross_validate, fit_head


def blobs(seed: int, count: int, classes: int, width: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    centers = np.random.default_rng(99).normal(size=(classes, width))
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), count)
    features = centers[labels] + random.normal(scale=spread, size=(len(labels), width))
    return (features * 3 + 5).astype(np.float32), labels


def objective(head: LinearHead, features: np.ndarray, labels: np.ndarray, strength: float) -> float:
    """Mean cross-entropy + strength / 2 |W|^2 in features divided by their spread, written out."""
    x = features.astype(np.float64)
    spread = np.sqrt(np.mean((x - x.mean(0)) ** 2))
    logits = x @ head.weight.T + head.bias
    logits -= logits.max(1, keepdims=True)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(x)), labels]
    return float(loss.mean() + strength / 2 * ((head.weight * spread) ** 2).sum())


@pytest.mark.parametrize("strength", [0.1, 0.003, 0.0001])
def test_the_head_reaches_the_minimum_that_scikit_learn_finds(strength: float) -> None:
    features, labels = blobs(0, 20, 5, 12, 1.5)
    head = fit_head(features, labels, 5, strength=strength)
    x = features.astype(np.float64)
    spread = np.sqrt(np.mean((x - x.mean(0)) ** 2))
    theirs = LogisticRegression(C=1 / (strength * len(x)), tol=1e-9, max_iter=20_000).fit(x / spread, labels)
    reference = LinearHead(weight=theirs.coef_ / spread, bias=theirs.intercept_)
    ours = objective(head, features, labels, strength)
    assert ours == pytest.approx(objective(reference, features, labels, strength), rel=1e-4)
    assert np.mean(head.logits(x).argmax(1) == reference.logits(x).argmax(1)) > 0.98


def test_more_features_than_images_and_a_constant_feature_are_no_trouble() -> None:
    features, labels = blobs(0, 3, 4, 60, 0.5)
    features[:, 7] = 2.0
    head = fit_head(features, labels, 4, strength=0.001)
    assert np.isfinite(head.weight).all()
    assert np.mean(head.logits(features).argmax(1) == labels) == 1.0


def test_noise_asks_for_a_stronger_penalty_than_clean_classes() -> None:
    chosen = []
    for spread in (0.3, 4.0):
        features, labels = blobs(0, 15, 4, 40, spread)
        val_features, val_labels = blobs(1, 15, 4, 40, spread)
        found = choose_strength(features, labels, val_features, val_labels, 4)
        losses = {strength: loss for strength, loss, _ in found.tried}
        assert found.strength == min(losses, key=losses.__getitem__)
        chosen.append(found.strength)
    assert chosen[0] < chosen[1]
    assert set(chosen) <= set(STRENGTHS)


def test_validation_images_are_not_fitted() -> None:
    features, labels = blobs(0, 15, 4, 10, 1.0)
    val_features, val_labels = blobs(1, 15, 4, 10, 1.0)
    found = choose_strength(features, labels, val_features, val_labels, 4)
    again = fit_head(features, labels, 4, strength=found.strength)
    assert np.allclose(found.head.weight, again.weight, atol=1e-3)


def test_cross_validation_never_cuts_a_group_and_repeats_with_its_seed() -> None:
    """Five near-copies of each image: cut apart, they make weak penalties look good."""
    features, labels = blobs(0, 12, 3, 30, 3.0)
    copies = np.repeat(features, 5, axis=0) + np.random.default_rng(5).normal(scale=0.01, size=(180, 30))
    copied, groups = np.repeat(labels, 5), np.repeat(np.arange(36), 5)
    honest = cross_validate(copies, copied, groups, 3, seed=0)
    naive = cross_validate(copies, copied, np.arange(180), 3, seed=0)
    assert honest.strength > naive.strength
    assert cross_validate(copies, copied, groups, 3, seed=0).tried == honest.tried
    with pytest.raises(DataError):
        cross_validate(copies, copied, np.zeros(180), 3, seed=0)


def test_a_class_without_images_is_never_answered() -> None:
    features, labels = blobs(0, 20, 3, 8, 0.5)
    head = fit_head(features, labels, 5, strength=0.01)
    assert set(head.logits(features).argmax(1)) <= {0, 1, 2}


@pytest.mark.parametrize("classes", [2, 208, 1000])
def test_any_number_of_classes(classes: int) -> None:
    features, labels = blobs(0, 2, classes, 24, 0.2)
    head = fit_head(features, labels, classes, strength=0.001)
    assert np.mean(head.logits(features).argmax(1) == labels) > 0.9


def test_features_in_which_nothing_varies_give_the_class_shares() -> None:
    labels = np.array([0, 0, 0, 1])
    head = fit_head(np.full((4, 9), 0.5), labels, 2, strength=0.01)
    logits = head.logits(np.full((1, 9), 0.5))[0]
    assert np.isfinite(logits).all()
    assert logits[0] - logits[1] == pytest.approx(np.log(3), abs=0.05)
