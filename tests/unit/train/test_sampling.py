"""What an epoch consists of: each image once, or rare classes more often."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.core.errors import RecipeError
from sortal.train.randomness import order
from sortal.train.sampling import Balanced, Filled, make_sampler

COUNTS = np.array([400, 150, 40, 9, 1])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
REMEDIES = (
    *("none", "sampler", "sqrt_sampler", "weights", "effective", "focal", "balanced_softmax", "logit_adjustment"),
    *("crt", "smote", "mixup_rare", "undersample", "oversample"),
)


def _drawn(samples: np.ndarray) -> np.ndarray:
    return np.bincount(LABELS[samples], minlength=5)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_plan_depends_on_seed_and_epoch_alone_and_is_as_long_as_promised(remedy: str) -> None:
    sampler, again = (make_sampler(remedy, LABELS, 5, 3) for _ in range(2))
    later, first = again.epoch(4), sampler.epoch(0)
    assert (sampler.epoch(4).samples == later.samples).all()
    assert len(first.samples) == len(later.samples) == sampler.length
    assert (first.samples != later.samples).any()
    assert (make_sampler(remedy, LABELS, 5, 4).epoch(0).samples != first.samples).any()
    assert first.samples.dtype == np.int64


@pytest.mark.parametrize("remedy", ["none", "weights", "focal", "balanced_softmax", "crt", "smote"])
def test_remedies_of_loss_and_head_take_every_image_once(remedy: str) -> None:
    plan = make_sampler(remedy, LABELS, 5, 7).epoch(2)
    assert (plan.samples == order(7, epoch=2, count=600)).all()
    assert plan.partners is None


@pytest.mark.parametrize(("remedy", "power"), [("sampler", 0.0), ("sqrt_sampler", 0.5)])
def test_drawn_frequencies_are_the_wanted_ones(remedy: str, power: float) -> None:
    sampler = make_sampler(remedy, LABELS, 5, 0)
    wanted = COUNTS**power / (COUNTS**power).sum()
    assert sampler.length == 600
    for epoch in range(20):
        assert (np.abs(_drawn(sampler.epoch(epoch).samples) - 600 * wanted) <= 1).all()


def test_images_of_a_class_come_equally_often() -> None:
    samples = make_sampler("sampler", LABELS, 5, 0).epoch(0).samples
    times = np.bincount(samples, minlength=600)
    assert set(times[LABELS == 0]) == {0, 1}
    assert set(times[LABELS == 2]) == {3}
    all_epochs = np.concatenate([make_sampler("sampler", LABELS, 5, 0).epoch(epoch).samples for epoch in range(200)])
    seen = np.bincount(all_epochs, minlength=600)[LABELS == 0]
    assert seen.mean() == pytest.approx(200 * 120 / 400)
    assert seen.std() < 2 * np.sqrt(200 * 0.3 * 0.7)


def test_two_processes_draw_the_wanted_frequencies_each() -> None:
    """The loader cuts each batch of the shared plan in two: both halves hold every class by its share."""
    sampler = make_sampler("sampler", LABELS, 5, 1)
    halves = np.zeros((2, 5))
    for epoch in range(30):
        batches = sampler.epoch(epoch).samples.reshape(-1, 2, 10)
        halves += np.stack([_drawn(batches[:, rank].ravel()) for rank in range(2)])
    shares = halves / halves.sum(axis=1, keepdims=True)
    assert np.abs(shares - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / (300 * 30))


def test_probabilities_can_move_over_the_epochs() -> None:
    sampler = make_sampler("sampler", LABELS, 5, 0, ramp_epochs=4)
    assert (_drawn(sampler.epoch(0).samples) == COUNTS).all()
    assert np.abs(_drawn(sampler.epoch(2).samples) - (COUNTS + 120) / 2).max() <= 1
    assert (np.abs(_drawn(sampler.epoch(9).samples) - 120) <= 1).all()


def test_probabilities_can_follow_the_recall() -> None:
    sampler = make_sampler("sampler", LABELS, 5, 0)
    assert isinstance(sampler, Balanced)
    moved = sampler.updated(np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    assert moved.shares == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 6, 2 / 6])
    assert np.abs(_drawn(moved.epoch(0).samples) - 600 * moved.shares).max() <= 1
    assert (_drawn(sampler.epoch(0).samples) == _drawn(sampler.epoch(0).samples)).all()


def test_majority_classes_are_reduced_to_the_ratio() -> None:
    sampler = make_sampler("undersample", LABELS, 5, 5, ratio=30.0)
    first, second = (sampler.epoch(epoch).samples for epoch in (0, 1))
    assert _drawn(first).tolist() == [30, 30, 30, 9, 1]
    assert len(set(first)) == len(first) == sampler.length == 100
    assert set(first) != set(second)


def test_rare_classes_are_filled_with_pairs_of_their_own_class() -> None:
    sampler = make_sampler("mixup_rare", LABELS, 5, 0)
    assert isinstance(sampler, Filled)
    assert sampler.added.tolist() == [0, 0, 60, 91, 99]
    plan = sampler.epoch(0)
    assert plan.partners is not None
    assert _drawn(plan.samples).tolist() == [400, 150, 100, 100, 100]
    mixed = plan.partners >= 0
    assert _drawn(plan.samples[mixed]).tolist() == [0, 0, 60, 91, 0]
    assert (LABELS[plan.samples[mixed]] == LABELS[plan.partners[mixed]]).all()
    assert (plan.samples[mixed] != plan.partners[mixed]).all()
    assert set(plan.samples[~mixed]) == set(range(600))


def test_rare_classes_are_filled_with_copies_and_counted() -> None:
    sampler = make_sampler("oversample", LABELS, 5, 0, target=20)
    assert isinstance(sampler, Filled)
    assert sampler.added.tolist() == [0, 0, 0, 11, 19]
    plan = sampler.epoch(0)
    assert plan.partners is None
    assert _drawn(plan.samples).tolist() == [400, 150, 40, 20, 20]


def test_filling_never_goes_beyond_the_largest_class_nor_to_classes_without_images() -> None:
    labels = np.array([0, 0, 0, 2, 2])
    sampler = make_sampler("mixup_rare", labels, 4, 0)
    assert sampler.length == 6
    assert np.bincount(labels[sampler.epoch(0).samples], minlength=4).tolist() == [3, 0, 3, 0]
    assert np.bincount(labels[make_sampler("sampler", labels, 4, 0).epoch(0).samples], minlength=4)[[1, 3]].sum() == 0


def test_auto_is_no_sampler() -> None:
    with pytest.raises(RecipeError, match="before training"):
        make_sampler("auto", LABELS, 5, 0)
