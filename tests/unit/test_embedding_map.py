"""Positions on a plane: within the square, repeatable, and clusters stay clusters."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from sortal.embedding_map import layout_2d, principal_components


def _clusters(each: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    centers = random.normal(0, 5, (3, 32))
    return (centers[labels] + random.normal(0, 0.3, (len(labels), 32))).astype(np.float32), labels


@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
def test_positions_are_within_the_square(count: int) -> None:
    features = np.random.default_rng(1).normal(size=(count, 8)).astype(np.float32)
    places, _ = layout_2d(features)
    assert places.shape == (count, 2)
    assert ((places >= 0) & (places <= 1)).all()


@pytest.mark.parametrize("installed", [True, False])
def test_clusters_stay_together_with_and_without_scikit_learn(
    *, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setattr("sortal.embedding_map.find_spec", lambda name: None)
    elif importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed")
    features, labels = _clusters(20)
    places, method = layout_2d(features)
    assert method == ("t-SNE" if installed else "PCA")
    middles = np.stack([places[labels == label].mean(axis=0) for label in range(3)])
    nearest = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    assert (nearest == labels).all()
    assert np.array_equal(layout_2d(features)[0], places)


def test_identical_images_are_no_fault() -> None:
    places, _ = layout_2d(np.ones((5, 4), np.float32))
    assert np.isfinite(places).all()


def test_principal_components_keep_distances_when_all_are_kept() -> None:
    features = np.random.default_rng(2).normal(size=(30, 6)).astype(np.float32)
    found = principal_components(features, 6)
    before = np.linalg.norm(features[:, None] - features, axis=2)
    assert np.allclose(np.linalg.norm(found[:, None] - found, axis=2), before, atol=1e-4)
    assert np.all(np.diff(found.var(axis=0)) <= 1e-6)
