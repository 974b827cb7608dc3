"""Which unknown score is taken, and what it is fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sortal.evaluate.unknown import METHODS
from sortal.evaluate.unknown.fit import KnownImages, choose, fit_unknown
from sortal.evaluate.unknown.leave_out import BASELINE, Candidate, Trial, World, candidates, compare_scores, left_out
from sortal.evaluate.unknown.ridge import fit_quick_head
from sortal.evaluate.unknown.sample import stratified

CLASSES = 8
MEANS = np.random.default_rng(0).normal(0, 1.5, (CLASSES, 30))


def blobs(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    labels = np.arange(count) % CLASSES
    noise = np.random.default_rng(seed).normal(0, 1, (count, 30))
    return (MEANS[labels] + noise).astype(np.float32), labels


def known_images(count: int = 80) -> KnownImages:
    values, labels = blobs(count, 2)
    head = fit_quick_head(*blobs(240, 1), values, labels, CLASSES)
    return KnownImages(embeddings=values, logits=head.logits(values), labels=labels)


def test_auto_says_what_was_compared() -> None:
    found = fit_unknown(*blobs(240, 1), known_images(), rate=0.05)
    assert found is not None
    assert set(found.auroc) == {
        BASELINE,
        *(one.name for one in candidates(("energy", "mahalanobis", "knn", "rank"), 8)),
    }
    assert found.trials == 4
    assert found.facts["method"] == found.chosen.name
    assert found.spec.threshold == found.threshold


def test_a_named_method_is_taken() -> None:
    found = fit_unknown(*blobs(240, 1), known_images(), rate=0.05, method="mahalanobis")
    assert found is not None
    assert found.method == "mahalanobis"


def test_without_validation_images_logits_are_no_measure() -> None:
    values, labels = blobs(240, 1)
    found = fit_unknown(values, labels, None, rate=0.05)
    assert found is not None
    assert found.method in ("mahalanobis", "knn")
    assert len(found.known_scores) == 48
    assert fit_unknown(values, labels, None, rate=0.05, method="energy") is None


def test_few_images_give_no_score() -> None:
    values, labels = blobs(16, 1)
    assert fit_unknown(values, labels, None, rate=0.05) is None


def test_two_classes_and_one_class_are_enough() -> None:
    values, labels = blobs(1600, 1)
    for classes in (1, 2):
        rows = labels < classes
        found = fit_unknown(values[rows], labels[rows], None, rate=0.1)
        assert found is not None
        strange = values[labels == 5]
        assert found.method in ("mahalanobis", "knn")
        scores = METHODS.get(found.method).score(found.parameters, strange, np.zeros((len(strange), 0), np.float32))
        assert (scores > found.threshold).mean() > 0.5


def test_a_single_score_replaces_the_combination_only_where_it_is_surely_ahead() -> None:
    tried = (Candidate(method="energy"), Candidate(method="rank"))

    def trials(*gains: float) -> list[Trial]:
        return [Trial(left_out=(0,), auroc={"energy": 0.8 + gain, "rank (whitened)": 0.8}) for gain in gains]

    assert choose(tried, trials(0.1, -0.08, 0.02)).method == "rank"
    assert choose(tried, trials(0.05, 0.06, 0.04)).method == "energy"
    assert choose(tried, trials(-0.05, -0.06, -0.04)).method == "rank"
    assert choose((Candidate(method="energy"), Candidate(method="mahalanobis")), ()).method == "mahalanobis"


def test_families_are_left_out_whole_every_second_time() -> None:
    families = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    for draw in range(6):
        out = left_out(np.arange(8), families, draw, seed=0)
        assert 0 < len(out) < 8
        if draw % 2:
            assert np.isin(np.flatnonzero(np.isin(families, families[out])), out).all()
    np.testing.assert_array_equal(left_out(np.arange(8), families, 1, 3), left_out(np.arange(8), families, 1, 3))


def test_too_few_images_make_no_trial() -> None:
    values, labels = blobs(240, 1)
    world = World(embeddings=values, labels=labels, held=values[:3], held_labels=labels[:3])
    assert compare_scores(world, candidates(("knn",), CLASSES)) == ()


@pytest.mark.parametrize("most", [10, 25, 60])
def test_a_sample_has_its_part_of_every_class(most: int) -> None:
    labels = np.repeat([0, 1, 2], [50, 9, 1])
    rows = stratified(labels, most, seed=0)
    counts = np.bincount(labels[rows], minlength=3)
    assert len(rows) == most
    assert (np.diff(rows) > 0).all()
    assert counts[2] == 1
    assert counts[1] == min(9, (most - 1) // 2 + ((most - 1) % 2 if counts[1] > counts[0] else 0))
