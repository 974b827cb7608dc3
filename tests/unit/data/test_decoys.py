"""Decoys: a threshold that keeps chance to its share, and pairs that are of the classes they should be."""

from __future__ import annotations

import numpy as np

from sortal.data.decoys import across_classes, mirrored, threshold, within_classes


def test_a_threshold_keeps_chance_to_a_tenth() -> None:
    rng = np.random.Generator(np.random.Philox(key=4))
    decoys = rng.normal(size=20_000).astype(np.float32)
    found = np.concatenate([rng.normal(size=5_000), 6 + rng.normal(size=5_000)]).astype(np.float32)
    least = threshold(found, decoys)
    assert least is not None
    assert (decoys >= least).mean() <= 0.1 * (found >= least).mean()
    assert 0 < least < 2
    assert threshold(decoys[:5_000], decoys) is None
    assert threshold(found[:5], decoys) is None


def test_values_are_their_own_decoys_below_the_middle() -> None:
    rng = np.random.Generator(np.random.Philox(key=5))
    chance = rng.normal(size=20_000)
    assert mirrored(chance) is None
    least = mirrored(np.concatenate([chance, 6 + rng.normal(size=2_000)]))
    assert least is not None
    assert 1 < least < 4
    assert mirrored(np.zeros(0)) is None


def test_decoys_are_of_one_class_or_of_two() -> None:
    labels = np.array([0, 0, 0, -1, 1, 1, 2])
    first, second = within_classes(labels, np.array([0, 1, 2, 4, 5]))
    assert (labels[first] == labels[second]).all()
    assert (first != second).all()
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 1, 2]]
    rows = np.array([0, 1, 2, 4, 5, 6])
    across = across_classes(vectors, labels, rows)
    assert len(across) > 1000
    assert (across == 0).all()
    assert len(across_classes(vectors, labels, rows[:3])) == 0
