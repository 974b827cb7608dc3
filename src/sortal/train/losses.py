"""Training losses as functions of logits (N, C) and targets. Computed in float32 (float64 where logits are).

Targets are class indices (N,) or soft targets (N, C) whose rows sum to 1, as mixing images makes them. Every loss is a
mean over the N images, whatever the class weights, so a loss with weights is in expectation as large as one without.

Shapes: N images, C classes, P coarse classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.errors import RecipeError
from sortal.core.sections import Imbalance, LossSection

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, C), targets (N,) or (N, C)) -> the loss, a scalar."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_TINY = 1e-12
"""Smallest 1 - p that the focal factor sees: below 1, its exponent would make the slope there infinite."""


def make_loss(section: LossSection, counts: Ints, *, remedy: Imbalance = "none", parents: Ints | None = None) -> Loss:
    """What training minimizes, for `counts` (C,) training images a class.

    Of the remedies for unequal class sizes, `weights`, `effective`, `focal`, `balanced_softmax` and
    `logit_adjustment` act here; the others act on what an epoch consists of or on the head, and the loss is as if there
    were none. `parents` (C,) is each class's coarse class, needed where `section.coarse` is above 0. Raises
    RecipeError for `auto`, which has to be decided before.
    """
    if remedy == "auto":
        raise RecipeError("the remedy has to be chosen before training", where="loss.imbalance", received="auto")
    gamma = section.gamma if "focal" in (section.name, remedy) else 0.0
    alpha = section.alpha if "focal" in (section.name, remedy) else None
    weights = torch.from_numpy(class_weights(counts, remedy, beta=section.beta) * (1.0 if alpha is None else alpha))
    offsets = torch.from_numpy(logit_offsets(counts, remedy, tau=section.tau))
    members = _members(parents) if parents is not None and section.coarse > 0 else None

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        logs = _log_softmax(logits + offsets.to(logits.device) if remedy in _ADJUSTED else logits)
        shares = soft(targets, logs.shape[1], logs.dtype) * weights.to(logs)
        total = _focal(logs, spread(shares, section.smoothing), gamma)
        if members is not None:
            total = total + section.coarse * _coarse(logs, shares, members)
        return total

    return loss


_ADJUSTED = ("balanced_softmax", "logit_adjustment")


def cross_entropy(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean over N of -sum_c q_c log softmax(logits)_c with q = (1 - smoothing) * target + smoothing / C.

    Label smoothing as in Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.
    """
    logs = _log_softmax(logits)
    return -(spread(soft(targets, logs.shape[1], logs.dtype), smoothing) * logs).sum(dim=1).mean()


def focal(logits: Tensor, targets: Tensor, *, gamma: float, alpha: Tensor | float = 1.0) -> Tensor:
    """Mean over N of sum_c q_c alpha_c (1 - p_c)^gamma (-log p_c) with p = softmax(logits).

    Lin et al. 2017, "Focal loss for dense object detection", for exclusive classes: the softmax keeps the classes in
    competition, where their form of independent sigmoids would not. One `alpha` scales the whole loss; per class (C,)
    it balances them. Equals cross-entropy where `gamma` is 0 and `alpha` 1.
    """
    logs = _log_softmax(logits)
    weights = torch.as_tensor(alpha, dtype=logs.dtype, device=logs.device)
    return _focal(logs, soft(targets, logs.shape[1], logs.dtype) * weights, gamma)


def distillation(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 times the mean over N of KL(softmax(teacher / T) || softmax(student / T)), for logits (N, C) of both.

    Hinton et al. 2015, "Distilling the knowledge in a neural network": gradients shrink with 1 / T^2, which the factor
    makes up for. Zero for equal logits. No gradient reaches the teacher.
    """
    own = _log_softmax(student / temperature)
    theirs = _log_softmax(teacher.detach() / temperature).to(own)
    return (theirs.exp() * (theirs - own)).sum(dim=1).mean() * temperature**2


def distill_total(ce: Tensor, kd: Tensor, *, ce_weight: float) -> Tensor:
    """The labels' loss with weight `ce_weight`, the teacher's with the rest: 0.7 * CE + 0.3 * KL * T^2."""
    return ce_weight * ce + (1.0 - ce_weight) * kd


def class_weights(counts: Ints, remedy: str, *, beta: float = 0.999) -> Floats:
    """(C,) factors on the loss of each class's images; their mean over the training images is 1.

    `weights`: inversely proportional to the images of the class, so that every class has the same share of the loss.
    `effective`: inversely to the effective number of samples (1 - beta^n) / (1 - beta), Cui et al. 2019,
    "Class-balanced loss based on effective number of samples". Ones for every other remedy. A class without images has
    weight 0.
    """
    if remedy not in ("weights", "effective"):
        return np.ones(len(counts))
    images = np.maximum(counts, 1).astype(np.float64)
    number = images if remedy == "weights" else (1.0 - beta**images) / (1.0 - beta)
    raw = np.where(counts > 0, 1.0 / number, 0.0)
    return np.asarray(raw * counts.sum() / max(float((raw * counts).sum()), 1e-300))


def logit_offsets(counts: Ints, remedy: str, *, tau: float = 1.0) -> NDArray[np.float32]:
    """(C,) what is added to the logits while training, and not when answering, so that rare classes must win by more.

    `balanced_softmax`: log n_c, Ren et al. 2020, "Balanced meta-softmax for long-tailed visual recognition".
    `logit_adjustment`: tau * log of the class's share, Menon et al. 2021, "Long-tail learning via logit adjustment";
    with tau 1 both minimize the same. Zeros for every other remedy. A class without images counts as having one.
    """
    images = np.maximum(counts, 1).astype(np.float64)
    if remedy == "balanced_softmax":
        return np.asarray(np.log(images), np.float32)
    if remedy == "logit_adjustment":
        return np.asarray(tau * np.log(images / images.sum()), np.float32)
    return np.zeros(len(counts), np.float32)


def smoothed(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    """The target distribution (N, C): a share `smoothing` is spread over all C classes, the right one included."""
    return spread(soft(targets, classes), smoothing)


def spread(shares: Tensor, smoothing: float) -> Tensor:
    """(N, C) with a share `smoothing` of each row's sum spread evenly, so that an image keeps its weight."""
    if smoothing == 0.0:
        return shares
    return (1.0 - smoothing) * shares + (smoothing / shares.shape[1]) * shares.sum(dim=1, keepdim=True)


def soft(targets: Tensor, classes: int, kind: torch.dtype = torch.float32) -> Tensor:
    """(N, C): indices as one-hot rows, soft targets as they are."""
    if targets.ndim == 2:
        return targets.to(kind)
    return torch.nn.functional.one_hot(targets, classes).to(kind)


def _log_softmax(logits: Tensor) -> Tensor:
    """Half precision has too few digits for the logarithm of small probabilities."""
    return torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)


def _focal(logs: Tensor, shares: Tensor, gamma: float) -> Tensor:
    costs = -shares * logs
    if gamma != 0.0:
        costs = costs * (-torch.expm1(logs)).clamp(min=_TINY).pow(gamma)
    return costs.sum(dim=1).mean()


def _coarse(logs: Tensor, shares: Tensor, members: Tensor) -> Tensor:
    """Mean of -log of the summed probabilities of the coarse class; `members` (P, most members) is padded with C."""
    padding = torch.full_like(logs[:, :1], -torch.inf)
    coarse_logs = torch.cat([logs, padding], dim=1)[:, members.to(logs.device)].logsumexp(dim=2)
    coarse = torch.cat([shares, torch.zeros_like(shares[:, :1])], dim=1)[:, members.to(logs.device)].sum(dim=2)
    return -(coarse * coarse_logs).sum(dim=1).mean()


def _members(parents: Ints) -> Tensor:
    rows = [np.flatnonzero(parents == parent) for parent in np.unique(parents)]
    table = np.full((len(rows), max(map(len, rows))), len(parents), np.int64)
    for row, classes in zip(table, rows, strict=True):
        row[: len(classes)] = classes
    return torch.from_numpy(table)
