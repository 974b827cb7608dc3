"""Choosing a remedy for unequal classes, and linear heads fitted with one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sortal.core.sections import Imbalance, LossSection
from sortal.train.imbalance import (
    balance_report,
    choose_by_rule,
    choose_remedy,
    posthoc_adjustment,
    remedies_table,
    stacking_finding,
)
from sortal.train.losses import logit_offsets
from sortal.train.probe import LinearHead, fit_head
from sortal.train.weighted_head import class_balanced_weights, fit_weighted_head, smote

LONG = np.array([400, 250, 150, 100, 60, 40, 24, 14, 10, 8])
STRENGTH = 0.003


@dataclass(frozen=True)
class World:
    """Overlapping Gaussian classes: training and validation images with `counts`, test images alike."""

    x: np.ndarray
    y: np.ndarray
    val_x: np.ndarray
    val_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def _world(counts: np.ndarray, *, seed: int = 0, features: int = 24, distance: float = 0.45) -> World:
    random = np.random.default_rng(seed)
    centers = random.normal(size=(len(counts), features)) * distance

    def draw(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(len(counts)), images)
        return (centers[labels] + random.normal(size=(len(labels), features))).astype(np.float32), labels

    return World(*draw(counts), *draw(np.maximum(2, counts // 4)), *draw(np.full(len(counts), 60)))


def _macro(head: LinearHead, x: np.ndarray, y: np.ndarray) -> float:
    answers = head.logits(x).argmax(axis=1)
    return float(np.mean([(answers[y == label] == label).mean() for label in np.unique(y)]))


def _fit(world: World, remedy: Imbalance, *, tau: float = 1.0) -> LinearHead:
    return fit_weighted_head(
        world.x,
        world.y,
        int(world.y.max()) + 1,
        strength=STRENGTH,
        remedy=remedy,
        section=LossSection(tau=tau),
        seed=0,
    )


def test_the_choice_wins_six_points_where_all_classes_count_the_same() -> None:
    """Macro accuracy on test images of equal classes, factor 50: at least six points above none, over two worlds."""
    gains = []
    for seed in range(2):
        world = _world(LONG, seed=seed)
        choice = choose_remedy(world.x, world.y, world.val_x, world.val_y, 10, seed=0, strength=STRENGTH)
        assert choice.name != "none"
        head = _fit(world, choice.name, tau=choice.tau)
        gains.append(_macro(head, world.test_x, world.test_y) - _macro(_fit(world, "none"), world.test_x, world.test_y))
    assert min(gains) > 0.0
    assert np.mean(gains) >= 0.06


def test_the_choice_is_told_with_its_numbers() -> None:
    world = _world(LONG)
    choice = choose_remedy(world.x, world.y, world.val_x, world.val_y, 10, seed=0, strength=STRENGTH)
    assert {"none", "weights", "effective", "sqrt_sampler", "focal", "balanced_softmax", "logit_adjustment"} == {
        row.name for row in choice.tried
    }
    plain, best = choice.tried[0], next(row for row in choice.tried if (row.name, row.tau) == (choice.name, choice.tau))
    assert plain.name == "none"
    assert best.macro > plain.macro
    assert best.groups["tail"] > plain.groups["tail"]
    assert f"{best.macro:.1%} instead of {plain.macro:.1%}" in choice.reason
    table = remedies_table(choice.tried, (choice.name, choice.tau))
    assert table.columns == (
        *("remedy", "tau", "chosen", "macro_recall", "accuracy", "head_recall", "mid_recall", "tail_recall"),
    )
    assert [row[2] for row in table.rows].count(True) == 1
    assert table.rows[0][:2] == ("none", None)


def test_equal_classes_are_left_alone() -> None:
    world = _world(np.full(5, 40))
    choice = choose_remedy(world.x, world.y, world.val_x, world.val_y, 5, seed=0)
    assert (choice.name, choice.tried) == ("none", ())


def test_where_nothing_is_won_there_is_no_remedy() -> None:
    """Classes far apart: every head is right about everything, and a tie goes to none."""
    world = _world(LONG, distance=4.0)
    choice = choose_remedy(world.x, world.y, world.val_x, world.val_y, 10, seed=0, strength=STRENGTH)
    assert choice.name == "none"
    assert choice.tried[0].macro == 1.0
    assert "No remedy" in choice.reason


def test_without_validation_images_training_images_are_held_out() -> None:
    world, nobody = _world(LONG), np.zeros((0, 24), np.float32)
    choices = [
        choose_remedy(world.x, world.y, nobody, np.zeros(0, np.int64), 10, seed=1, strength=STRENGTH) for _ in range(2)
    ]
    assert choices[0] == choices[1]
    assert choices[0].name != "none"
    tiny = choose_remedy(np.eye(4, dtype=np.float32), np.array([0, 0, 0, 1]), nobody, np.zeros(0, np.int64), 2, seed=0)
    assert tiny.name == "none"


def test_balance_is_measured() -> None:
    balance = balance_report(LONG)
    assert balance.ratio == 50.0
    assert balance.uneven
    assert balance_report(np.full(4, 7)).gini == pytest.approx(0.0)
    assert balance_report(np.array([1, 3])).gini == pytest.approx(0.25)
    assert balance.groups["tail"].tolist() == [False] * 7 + [True] * 3
    assert balance_report(np.array([0, 5, 10])).ratio == 2.0


def test_groups_of_very_unequal_but_large_classes_are_thirds() -> None:
    groups = balance_report(np.array([5000, 4000, 900, 800, 300, 200])).groups
    assert groups["head"].tolist() == [True, True, False, False, False, False]
    assert groups["mid"].tolist() == [False, False, True, True, False, False]
    assert groups["tail"].tolist() == [False, False, False, False, True, True]


def test_the_rule_without_features() -> None:
    assert choose_by_rule(LONG).name == "logit_adjustment"
    assert choose_by_rule(LONG).tau == 1.0
    assert choose_by_rule(np.array([90, 10])).name == "none"


def test_adjustment_afterwards_is_the_adjusted_optimum() -> None:
    """Logits of a network that knows the truth: subtracting the log prior is best where classes count the same."""
    random = np.random.default_rng(0)
    counts = np.array([900, 300, 90])
    labels = np.repeat(np.arange(3), counts)
    x = labels + random.normal(size=len(labels)) * 0.8
    likelihood = -((x[:, None] - np.arange(3)) ** 2) / (2 * 0.64)
    logits = (likelihood + np.log(counts / counts.sum())).astype(np.float32)
    found = posthoc_adjustment(logits, labels, counts)
    assert found.tau > 0
    macros = {row.tau: row.macro for row in found.tried}
    assert macros[1.0] > macros[0.5] > macros[0.0]
    assert found.offsets == pytest.approx(-found.tau * logit_offsets(counts, "logit_adjustment"), rel=1e-6)


def test_adjustment_afterwards_counts_what_training_did() -> None:
    """A head trained with tau 1 and one trained without end at the same strength, and at nearly the same answers."""
    world = _world(LONG, seed=1)
    counts = np.bincount(world.y)
    ends = []
    for remedy, tau in (("none", 0.0), ("balanced_softmax", 1.0)):
        logits = _fit(world, remedy).logits(world.val_x)
        found = posthoc_adjustment(logits, world.val_y, counts, trained_tau=tau)
        ends.append((found.tau, (logits + found.offsets).argmax(axis=1)))
    assert ends[0][0] == ends[1][0]
    assert (ends[0][1] == ends[1][1]).mean() > 0.95
    nobody = np.zeros((0, 10), np.float32)
    kept = posthoc_adjustment(nobody, np.zeros(0, np.int64), counts, trained_tau=1.0)
    assert kept.tau == 1.0
    assert (kept.offsets == 0).all()


def test_an_expensive_remedy_is_not_taken() -> None:
    """Two classes that look the same, 50 to 1: every answer for the rare one costs fifty others."""
    random = np.random.default_rng(0)
    counts = np.array([500, 10])
    labels = np.repeat([0, 1], counts)
    logits = (np.log(counts / counts.sum()) + random.normal(size=(510, 2)) * 0.1).astype(np.float32)
    found = posthoc_adjustment(logits, labels, counts)
    assert found.tau == 0.0


@pytest.mark.parametrize(
    "remedy",
    ["sampler", "sqrt_sampler", "weights", "effective", "balanced_softmax", "logit_adjustment", "crt", "smote"],
)
def test_every_remedy_of_a_head_helps_rare_classes(remedy: Imbalance) -> None:
    world = _world(LONG, seed=2)
    tail = np.isin(world.test_y, (7, 8, 9))
    with_it, without = _fit(world, remedy), _fit(world, "none")
    assert _macro(with_it, world.test_x[tail], world.test_y[tail]) > _macro(
        without, world.test_x[tail], world.test_y[tail]
    )


@pytest.mark.parametrize("remedy", ["undersample", "mixup_rare", "focal", "none"])
def test_the_other_heads_can_be_fitted(remedy: Imbalance) -> None:
    world = _world(LONG, seed=2)
    assert _macro(_fit(world, remedy), world.test_x, world.test_y) > 0.3
    if remedy == "none":
        plain = fit_head(world.x, world.y, 10, strength=STRENGTH)
        assert (_fit(world, "none").weight == plain.weight).all()


def test_weights_do_what_repeating_images_does() -> None:
    """A head with whole-number weights is the head on repeated images."""
    world = _world(np.array([40, 20, 10]))
    repeated = np.repeat(np.arange(70), np.repeat([1, 2, 4], [40, 20, 10]))
    weighted = _fit(world, "weights")
    plain = fit_head(world.x[repeated], world.y[repeated], 3, strength=STRENGTH)
    agree = weighted.logits(world.test_x).argmax(axis=1) == plain.logits(world.test_x).argmax(axis=1)
    assert agree.mean() > 0.97
    assert class_balanced_weights(world.y, 3).mean() == pytest.approx(1.0)
    sums = np.bincount(world.y, class_balanced_weights(world.y, 3))
    assert sums == pytest.approx([70 / 3] * 3)


def test_smote_puts_points_between_neighbors_of_the_class() -> None:
    world = _world(np.array([30, 12, 3, 1]), features=5)
    more, labels = smote(world.x, world.y, 4, seed=3)
    assert np.bincount(labels).tolist() == [30, 30, 30, 30]
    assert (more[:46] == world.x).all()
    for point, label in zip(more[46:], labels[46:], strict=True):
        own = world.x[world.y == label].astype(np.float64)
        if len(own) == 1:
            assert (point == own[0].astype(np.float32)).all()
            continue
        assert min(_off_segment(point, a, b) for a in own for b in own) < 1e-5
    again, _ = smote(world.x, world.y, 4, seed=3)
    other, _ = smote(world.x, world.y, 4, seed=4)
    assert (again == more).all()
    assert (other != more).any()


def test_smote_joins_near_neighbors_only() -> None:
    """Two clusters of one class, six points each: no new point lies between the clusters."""
    random = np.random.default_rng(0)
    rare = np.concatenate([random.normal(size=(6, 2)), random.normal(size=(6, 2)) + 100])
    x = np.concatenate([random.normal(size=(200, 2)), rare]).astype(np.float32)
    y = np.repeat([0, 1], [200, 12])
    more, _ = smote(x, y, 2, seed=0)
    made = more[212:, 0]
    assert len(made) == 188
    assert ((made < 10) | (made > 90)).all()


def _off_segment(point: np.ndarray, begin: np.ndarray, end: np.ndarray) -> float:
    """Distance from a point to the segment between two others."""
    way = end - begin
    place = np.clip((point - begin) @ way / max(way @ way, 1e-12), 0.0, 1.0)
    return float(np.linalg.norm(point - begin - place * way))


def test_two_compensations_are_warned_of() -> None:
    assert stacking_finding(LossSection()) is None
    assert stacking_finding(LossSection(name="focal")) is None
    assert stacking_finding(LossSection(imbalance="weights")) is None
    found = stacking_finding(LossSection(name="focal", imbalance="sampler"))
    assert found is not None
    assert found.severity == "warning"
    assert "twice" in found.message
