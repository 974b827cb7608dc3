"""Losses for unequal class sizes and for teachers, against formulas, torch and numeric slopes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.errors import RecipeError
from sortal.core.sections import Imbalance, LossSection
from sortal.train.losses import (
    class_weights,
    cross_entropy,
    distill_total,
    distillation,
    focal,
    logit_offsets,
    make_loss,
)

COUNTS = np.array([500, 60, 10, 4], np.int64)
REMEDIES: tuple[Imbalance, ...] = (
    "none",
    "sampler",
    "sqrt_sampler",
    "weights",
    "effective",
    "focal",
    "balanced_softmax",
    "logit_adjustment",
    "crt",
    "smote",
    "mixup_rare",
    "undersample",
)
HARD = LossSection(smoothing=0.0)


def _drawn(rows: int = 6, classes: int = 4, *, kind: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)).to(kind) * 2


def _targets(form: str, classes: int = 4) -> Tensor:
    indices = torch.tensor([0, 0, 1, 2, 3, 3]) % classes
    if form == "hard":
        return indices
    one_hot = torch.nn.functional.one_hot(indices, classes).float()
    return 0.9 * one_hot + 0.1 / classes if form == "smoothed" else 0.7 * one_hot + 0.3 * one_hot.flip(0)


@pytest.mark.parametrize("remedy", REMEDIES)
@pytest.mark.parametrize("form", ["hard", "smoothed", "mixed"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("coarse", [0.0, 0.5])
def test_every_loss_takes_every_kind_of_target(remedy: Imbalance, form: str, kind: torch.dtype, coarse: float) -> None:
    loss = make_loss(LossSection(coarse=coarse), COUNTS, remedy=remedy, parents=np.array([0, 1, 1, 0]))
    logits = _drawn(kind=kind).requires_grad_()
    value = loss(logits, _targets(form))
    value.backward()
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert logits.grad.dtype == kind
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("remedy", REMEDIES)
def test_slopes_are_the_slopes_of_the_value(remedy: Imbalance) -> None:
    loss = make_loss(LossSection(coarse=0.3), COUNTS, remedy=remedy, parents=np.array([0, 1, 1, 0]))
    logits = _drawn(kind=torch.float64).requires_grad_()
    for form in ("hard", "mixed"):
        targets = _targets(form)
        assert torch.autograd.gradcheck(lambda x, t=targets: loss(x, t), (logits,), atol=1e-6)


def test_without_a_remedy_it_is_smoothed_cross_entropy() -> None:
    value = make_loss(LossSection(smoothing=0.1), COUNTS)(_drawn(), _targets("hard"))
    expected = torch.nn.functional.cross_entropy(_drawn(), _targets("hard"), label_smoothing=0.1)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_focal_loss_equals_its_formula_for_indices_and_shares() -> None:
    logits, gamma = _drawn(kind=torch.float64), 2.0
    p = torch.softmax(logits, dim=1).numpy()
    alpha = np.array([0.1, 0.2, 0.3, 0.4])
    for form in ("hard", "smoothed", "mixed"):
        q = _targets(form).double()
        q = torch.nn.functional.one_hot(_targets("hard"), 4).double() if form == "hard" else q
        expected = (q.numpy() * alpha * (1 - p) ** gamma * -np.log(p)).sum(axis=1).mean()
        value = focal(logits, _targets(form), gamma=gamma, alpha=torch.from_numpy(alpha))
        assert value.item() == pytest.approx(expected, rel=1e-9)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    for form in ("hard", "mixed"):
        expected = cross_entropy(_drawn(), _targets(form)).item()
        assert focal(_drawn(), _targets(form), gamma=0.0).item() == pytest.approx(expected, rel=1e-6)
    section = LossSection(name="focal", gamma=0.0, smoothing=0.1)
    assert make_loss(section, COUNTS)(_drawn(), _targets("hard")).item() == pytest.approx(
        cross_entropy(_drawn(), _targets("hard"), smoothing=0.1).item(), rel=1e-6
    )


def test_focal_loss_mutes_easy_images_and_grows_with_the_classes() -> None:
    """At p = 0.9 the factor is 0.01, at p = 0.1 it is 0.81. A sum of sigmoids would be the same for 7 and 1000."""
    for p, factor in ((0.9, 0.01), (0.1, 0.81)):
        logits = torch.tensor([[math.log(p), math.log(1 - p)]], dtype=torch.float64)
        value = focal(logits, torch.tensor([0]), gamma=2.0).item()
        assert value == pytest.approx(factor * -math.log(p), rel=1e-9)
    for classes in (7, 208, 1000):
        value = focal(torch.zeros(2, classes), torch.tensor([0, 1]), gamma=2.0).item()
        assert value == pytest.approx((1 - 1 / classes) ** 2 * math.log(classes), rel=1e-5)


def test_one_alpha_scales_the_whole_focal_loss() -> None:
    whole = make_loss(LossSection(smoothing=0.0), COUNTS, remedy="focal")(_drawn(), _targets("hard"))
    quarter = make_loss(LossSection(smoothing=0.0, alpha=0.25), COUNTS, remedy="focal")(_drawn(), _targets("hard"))
    assert quarter.item() == pytest.approx(0.25 * whole.item(), rel=1e-6)


def test_a_certain_answer_has_finite_slopes_under_focus() -> None:
    logits = torch.tensor([[200.0, -200.0]]).requires_grad_()
    focal(logits, torch.tensor([0]), gamma=0.5).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_weights_are_those_of_torch_and_average_to_one_over_the_images() -> None:
    for remedy in ("weights", "effective"):
        weights = class_weights(COUNTS, remedy)
        assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1.0)
        total = torch.nn.functional.cross_entropy(
            _drawn(), _targets("hard"), weight=torch.from_numpy(weights).float(), reduction="sum"
        )
        value = make_loss(HARD, COUNTS, remedy=remedy)(_drawn(), _targets("hard"))
        assert value.item() == pytest.approx(total.item() / 6, rel=1e-6)
    assert class_weights(COUNTS, "weights") == pytest.approx(COUNTS.sum() / (4 * COUNTS))


def test_effective_numbers_follow_the_formula_between_none_and_inverse_frequency() -> None:
    raw = (1 - 0.99) / (1 - 0.99 ** COUNTS.astype(float))
    found = class_weights(COUNTS, "effective", beta=0.99)
    assert found / found[0] == pytest.approx(raw / raw[0])
    assert class_weights(COUNTS, "effective", beta=0.0) == pytest.approx(np.ones(4))
    nearly = class_weights(COUNTS, "effective", beta=1 - 1e-9)
    assert nearly == pytest.approx(class_weights(COUNTS, "weights"), rel=1e-4)


def test_a_class_without_images_breaks_nothing() -> None:
    counts: NDArray[np.int64] = np.array([10, 0, 5, 1])
    assert class_weights(counts, "weights")[1] == 0.0
    for remedy in REMEDIES:
        value = make_loss(LossSection(), counts, remedy=remedy)(_drawn(), torch.tensor([0, 2, 3, 0, 2, 3]))
        assert math.isfinite(value.item())


@pytest.mark.parametrize("remedy", ["weights", "effective", "balanced_softmax", "logit_adjustment"])
def test_the_tail_pulls_harder_and_the_head_less(remedy: Imbalance) -> None:
    """Slopes at equal logits: an image of the rarest class moves its logit more than without, one of the head less."""

    def pull(name: Imbalance, label: int) -> float:
        logits = torch.zeros(1, 4, requires_grad=True)
        make_loss(HARD, COUNTS, remedy=name)(logits, torch.tensor([label])).backward()
        assert logits.grad is not None
        return -float(logits.grad[0, label])

    assert pull(remedy, 3) > 1.2 * pull("none", 3)
    assert pull(remedy, 0) < pull("none", 0)


def test_balanced_softmax_is_the_formula_and_adjustment_with_tau_one() -> None:
    logits, targets = _drawn(kind=torch.float64), _targets("hard")
    scores = COUNTS * np.exp(logits.numpy())
    expected = -np.log(scores[np.arange(6), targets.numpy()] / scores.sum(axis=1)).mean()
    value = make_loss(HARD, COUNTS, remedy="balanced_softmax")(logits, targets)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    adjusted = make_loss(HARD, COUNTS, remedy="logit_adjustment")(logits, targets)
    assert adjusted.item() == pytest.approx(expected, rel=1e-6)
    halved = logit_offsets(COUNTS, "logit_adjustment", tau=0.5)
    assert halved == pytest.approx(0.5 * np.log(COUNTS / COUNTS.sum()), rel=1e-6)


def test_the_optimum_of_an_adjusted_loss_answers_as_if_classes_were_equally_frequent() -> None:
    """One constant input, so the best logits are known: log frequencies for cross-entropy, all equal when adjusted."""
    logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.from_numpy(COUNTS / COUNTS.sum())[None]
    loss = make_loss(HARD, COUNTS, remedy="balanced_softmax")
    loss(logits, targets).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-7


def test_smoothing_of_a_weighted_image_spreads_its_own_weight() -> None:
    """A head image must not push tail classes with their weights."""
    weights = class_weights(COUNTS, "weights")
    logits, label = _drawn(rows=1, kind=torch.float64), torch.tensor([0])
    value = make_loss(LossSection(smoothing=0.1), COUNTS, remedy="weights")(logits, label)
    expected = weights[0] * cross_entropy(logits, label, smoothing=0.1).item()
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_mixed_targets_cost_the_mixture_of_the_losses() -> None:
    logits = _drawn(rows=1)
    for remedy in ("none", "weights", "balanced_softmax", "focal"):
        loss = make_loss(LossSection(smoothing=0.1), COUNTS, remedy=remedy)
        mixed = loss(logits, torch.tensor([[0.3, 0.0, 0.0, 0.7]]))
        parts = 0.3 * loss(logits, torch.tensor([0])) + 0.7 * loss(logits, torch.tensor([3]))
        assert mixed.item() == pytest.approx(parts.item(), rel=1e-5)


def test_the_coarse_term_is_the_log_loss_of_summed_probabilities() -> None:
    parents = np.array([1, 0, 1, 2])
    logits, targets = _drawn(kind=torch.float64), _targets("hard")
    p = torch.softmax(logits, dim=1).numpy()
    summed = np.stack([p[:, parents == parent].sum(axis=1) for parent in range(3)], axis=1)
    extra = -np.log(summed[np.arange(6), parents[targets.numpy()]]).mean()
    plain = cross_entropy(logits, targets).item()
    loss = make_loss(LossSection(smoothing=0.0, coarse=0.5), COUNTS, parents=parents)
    assert loss(logits, targets).item() == pytest.approx(plain + 0.5 * extra, rel=1e-9)
    far = torch.tensor([[300.0, -300.0, -300.0, -300.0]])
    assert loss(far, torch.tensor([1])).item() == pytest.approx(600 + 0.5 * 600)


def test_auto_is_no_loss() -> None:
    with pytest.raises(RecipeError, match="before training"):
        make_loss(LossSection(), COUNTS, remedy="auto")


def test_distillation_equals_a_hand_example() -> None:
    """T = 2, teacher [2, 0], student [0, 0]: p = sigmoid(1) = 0.731059, KL = p log(2p) + (1-p) log(2(1-p)) = 0.1110."""
    p = 1 / (1 + math.exp(-1.0))
    kl = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    kd = distillation(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), temperature=2.0)
    assert kd.item() == pytest.approx(4 * kl, rel=1e-5)
    ce = cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
    total = distill_total(ce, kd, ce_weight=0.7)
    assert total.item() == pytest.approx(0.7 * math.log(2) + 0.3 * kl * 4, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_distillation_is_the_batch_mean_of_torch_and_zero_for_identical_logits(temperature: float) -> None:
    student, teacher = _drawn(seed=1).requires_grad_(), _drawn(seed=2).requires_grad_()
    value = distillation(student, teacher, temperature=temperature)
    expected = torch.nn.functional.kl_div(
        torch.log_softmax(student / temperature, 1), torch.softmax(teacher / temperature, 1), reduction="batchmean"
    )
    assert value.item() == pytest.approx(expected.item() * temperature**2, rel=1e-5)
    value.backward()
    assert teacher.grad is None
    assert distillation(teacher, teacher, temperature=temperature).item() == pytest.approx(0.0, abs=1e-7)
