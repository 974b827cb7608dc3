"""Scenes: found where classes have few of them, of any size; not found where pictures share what all classes have."""

from __future__ import annotations

import numpy as np

from sortal.data.scenes import find_scenes, skewed_sets, within_class


def _classes_of(sizes: tuple[int, ...], *, key: int, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of 20 classes with scenes of these sizes, labels, scenes. Each class varies in 8 directions of its own,
    from scene to scene and, by `spread` times as much, within one."""
    rng = np.random.Generator(np.random.Philox(key=key))
    scene = np.repeat(np.arange(20 * len(sizes)), np.tile(sizes, 20))
    label = scene // len(sizes)
    inner = rng.normal(size=(20 * len(sizes), 8))[scene] + spread * rng.normal(size=(len(scene), 8))
    directions = rng.normal(size=(20, 8, 256))[label]
    values = np.einsum("nq,nqd->nd", inner, directions) + 0.3 * rng.normal(size=(len(scene), 256))
    return values.astype(np.float32), label, scene


def _agreement(sets: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Shares of the true pairs that are found, and of the found pairs that are true."""
    together, same, apart = sets[:, None] == sets[None], truth[:, None] == truth[None], ~np.eye(len(truth), dtype=bool)
    return float(together[same & apart].mean()), float(same[together & apart].mean())


def test_the_two_scenes_of_a_class_are_found() -> None:
    """They lie opposite each other around the mean of the class: decoys of one class take that for chance."""
    for key in range(3):
        values, labels, scenes = _classes_of((12, 8), key=key, spread=0.5)
        vectors = within_class(values, labels)
        recall, precision = _agreement(find_scenes(vectors, labels)[0], scenes)
        assert recall > 0.85
        assert precision > 0.85
        assert _agreement(skewed_sets(vectors, labels), scenes)[0] < 0.6


def test_no_class_becomes_one_scene() -> None:
    values, labels, _ = _classes_of((12, 6, 4, 2), key=4, spread=0.8)
    into, _ = find_scenes(within_class(values, labels), labels)
    pairs = np.unique(np.stack([labels, into]), axis=1)[0]
    assert np.bincount(pairs).min() >= 2
    assert (labels == labels[into]).all()


def test_a_background_that_all_classes_share_makes_no_scene() -> None:
    for key in range(3):
        rng = np.random.Generator(np.random.Philox(key=key))
        labels = np.repeat(np.arange(8), 60)
        backgrounds = rng.normal(size=(12, 64))[rng.integers(0, 12, 480)]
        own = 3 * rng.normal(size=(8, 64))[labels] + 0.5 * rng.normal(size=(480, 64))
        vectors = within_class((own + backgrounds).astype(np.float32), labels)
        assert np.bincount(find_scenes(vectors, labels)[0]).max() <= 2
        assert np.bincount(skewed_sets(vectors, labels)).max() > 5


def test_one_class_has_scenes_too() -> None:
    rng = np.random.Generator(np.random.Philox(key=8))
    scenes = np.concatenate([np.repeat(np.arange(20), 4), np.arange(20, 80)])
    values = rng.normal(size=(80, 24))[scenes] + 0.2 * rng.normal(size=(140, 24))
    labels = np.zeros(140, np.int64)
    into, evidence = find_scenes(within_class(values.astype(np.float32), labels), labels)
    recall, precision = _agreement(into, scenes)
    assert recall > 0.7
    assert precision > 0.8
    assert len(evidence) == 1


def test_small_classes_and_rows_without_a_class_have_none() -> None:
    values = np.ones((12, 4), np.float32)
    labels = np.array([0] * 5 + [1] * 5 + [-1] * 2)
    into, evidence = find_scenes(within_class(values, labels), labels)
    assert into.tolist() == list(range(12))
    assert evidence == []


def test_a_cloud_has_no_scenes() -> None:
    rng = np.random.Generator(np.random.Philox(key=2))
    labels = np.repeat(np.arange(4), 60)
    centers = np.repeat(rng.normal(size=(4, 32)) * 5, 60, axis=0)
    values = (centers + rng.normal(size=(240, 32))).astype(np.float32)
    into, evidence = find_scenes(within_class(values, labels), labels)
    assert evidence == [] or np.bincount(into).max() <= 3
