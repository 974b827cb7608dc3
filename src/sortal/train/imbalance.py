"""Unequal class sizes: how unequal, which remedy, tried on frozen features, and what can be done after training.

A remedy is chosen by macro accuracy on validation images: the mean recall of the classes. The validation images are as
unequal as the training images, so most remedies buy recall of rare classes with answers lost on frequent ones. A remedy
may cost one point of plain accuracy; each further point must win more than a point of macro accuracy. (With a hard
limit of one point, ten classes of 850 to 17 small images would gain 1 to 3 points on a test split with equal classes,
where 11 are to be had.) Only one remedy is used: two compensate twice.

Shapes: N training images, V validation images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Finding, Table
from sortal.core.sections import Imbalance, LossSection
from sortal.data.statistics import UNEVEN_RATIO, imbalance_ratio
from sortal.evaluate.tables import buckets
from sortal.train.losses import logit_offsets
from sortal.train.probe import choose_strength, compare_heads
from sortal.train.randomness import generator
from sortal.train.weighted_head import adjustment_of

Ints = NDArray[np.int64]

MOST_LOST = 0.01
"""Plain accuracy on validation images that a remedy may cost."""
PRICE = 1.0
"""Macro accuracy that each further point of plain accuracy must win."""
_LEAST_WON = 0.005
"""Macro accuracy that a remedy must win over none; within it of the best, the one with more plain accuracy is taken."""
_TRY_FROM = 1.5
"""Imbalance ratio under which nothing is tried."""
_TAUS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_HELD = 5
"""Where there are no validation images, one in so many training images is held out to choose by."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How unequal the classes are."""

    ratio: float
    """Images of the largest class over those of the smallest that has any."""
    gini: float
    """0 where all classes have as many images, towards 1 where one class has them all."""
    groups: dict[str, NDArray[np.bool_]]
    """(C,) members of head, mid and tail, as the report counts them."""

    @property
    def uneven(self) -> bool:
        """True from the ratio on at which reports lead with averages over classes."""
        return self.ratio >= UNEVEN_RATIO


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One remedy and what it came to on validation images."""

    name: Imbalance
    tau: float
    """Of `logit_adjustment`; 1 for `balanced_softmax`, 0 for others."""
    macro: float
    overall: float
    groups: dict[str, float]
    """Mean recall of head, mid and tail, where they have validation images."""


@dataclass(frozen=True, kw_only=True)
class RemedyChoice:
    """The remedy, never `auto`, and why."""

    name: Imbalance
    tau: float
    """For `loss.tau`: the strength of `logit_adjustment`."""
    tried: tuple[Tried, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class PostHoc:
    """What to add to the logits of a trained network; it can be folded into the bias of its head."""

    tau: float
    """Strength of adjustment in all, what training did included."""
    offsets: NDArray[np.float32]
    """(C,)"""
    tried: tuple[Tried, ...]


def balance_report(counts: Ints) -> Balance:
    """Ratio, Gini coefficient and groups of classes for (C,) training images a class."""
    sizes = np.sort(counts[counts > 0]).astype(np.float64)
    places = 2 * np.arange(1, len(sizes) + 1) - len(sizes) - 1
    gini = float((places * sizes).sum() / (len(sizes) * sizes.sum())) if len(sizes) else 0.0
    groups = {bucket.name: bucket.members for bucket in buckets(counts)}
    return Balance(ratio=imbalance_ratio(counts), gini=gini, groups=groups)


def choose_remedy(
    features: NDArray[Any],
    labels: Ints,
    val_features: NDArray[Any],
    val_labels: Ints,
    classes: int,
    *,
    seed: int,
    section: LossSection | None = None,
    strength: float | None = None,
) -> RemedyChoice:
    """The remedy whose linear head on features (N, D) has the best macro accuracy on (V, D), by the rules above.

    `strength` is the penalty of the heads, chosen by the validation images where it is not given. Without validation
    images a fifth of each class with at least five training images is held out for the choice. Nothing is tried, and
    the answer is `none`, where classes are about equal or there is nothing to choose by.
    """
    counts = np.bincount(labels, minlength=classes)
    ratio = imbalance_ratio(counts)
    if ratio < _TRY_FROM:
        return _none(f"The classes are about equally large (largest over smallest: {ratio:.1f}).")
    if not len(val_labels):
        held = _held_out(labels, seed)
        features, val_features, labels, val_labels = features[~held], features[held], labels[~held], labels[held]
    if not len(val_labels):
        return _none("There are too few images to compare remedies by.")
    if strength is None:
        strength = choose_strength(features, labels, val_features, val_labels, classes).strength
    rules = section or LossSection()
    candidates = _candidates()
    adjustments = [adjustment_of(name, labels, classes, _with_tau(rules, tau)) for name, tau in candidates]
    heads = compare_heads(features, labels, classes, strength=strength, adjustments=adjustments)
    groups = balance_report(counts).groups
    tried = [
        _tried(name, tau, head.logits(val_features), val_labels, groups)
        for (name, tau), head in zip(candidates, heads, strict=True)
    ]
    best = _best(tried)
    return RemedyChoice(name=best.name, tau=best.tau, tried=tuple(tried), reason=_reason(best, tried, ratio))


def choose_by_rule(counts: Ints) -> RemedyChoice:
    """For networks without pretrained features to try anything on: logit adjustment where classes are very unequal.

    How much of it is right for these images is found out after training, see `posthoc_adjustment`.
    """
    ratio = imbalance_ratio(counts)
    if ratio < UNEVEN_RATIO:
        return _none(f"The largest class has {ratio:.1f} times the images of the smallest, less than {UNEVEN_RATIO:g}.")
    reason = (
        f"Logit adjustment: the largest class has {ratio:.0f} times the images of the smallest, and without pretrained "
        "features nothing can be tried beforehand."
    )
    return RemedyChoice(name="logit_adjustment", tau=1.0, tried=(), reason=reason)


def posthoc_adjustment(
    val_logits: NDArray[np.float32], val_labels: Ints, counts: Ints, *, trained_tau: float = 0.0
) -> PostHoc:
    """How strongly the logits (V, C) of a trained network should be adjusted, by the same rules as a remedy.

    Subtracting tau * log prior from the logits (Menon et al. 2021, section 4) asks for the class that is most probable
    where all are equally frequent. A network trained with logit adjustment `trained_tau` (balanced softmax: 1) has that
    much already; strength 0 takes it back, and is what the rules compare with.
    """
    priors = logit_offsets(counts, "logit_adjustment")
    groups = balance_report(counts).groups
    taus = sorted({0.0, trained_tau, *_TAUS})
    tried = [
        _tried("logit_adjustment", tau, val_logits - (tau - trained_tau) * priors, val_labels, groups) for tau in taus
    ]
    tau = _best(tried).tau if len(val_labels) else trained_tau
    return PostHoc(tau=tau, offsets=np.asarray(-(tau - trained_tau) * priors, np.float32), tried=tuple(tried))


def remedies_table(tried: Sequence[Tried], chosen: tuple[Imbalance, float]) -> Table:
    """What each remedy came to on validation images, the first row without any; `chosen` is name and tau.

    For the table `remedies` of a report: head, mid and tail before and after.
    """
    groups = [name for name in ("head", "mid", "tail") if any(name in row.groups for row in tried)]
    columns = ("remedy", "tau", "chosen", "macro_recall", "accuracy", *(f"{name}_recall" for name in groups))
    rows = (
        (row.name, row.tau or None, (row.name, row.tau) == chosen, row.macro, row.overall, *map(row.groups.get, groups))
        for row in tried
    )
    return Table(columns=columns, rows=tuple(rows))


def stacking_finding(section: LossSection) -> Finding | None:
    """A warning where the recipe compensates twice for unequal classes: one remedy and a focal loss."""
    if section.name != "focal" or section.imbalance in ("none", "focal"):
        return None
    return Finding(
        code="stacked_remedies",
        severity="warning",
        message=f"A focal loss together with loss.imbalance={section.imbalance} compensates twice for rare classes: "
        "frequent classes and calibration suffer.",
        hint="keep one of them: loss.name=cross_entropy, or loss.imbalance=none",
    )


def _candidates() -> list[tuple[Imbalance, float]]:
    """On a linear head a balanced sampler and `weights` are the same, and so is `balanced_softmax` and tau 1."""
    plain: tuple[Imbalance, ...] = ("none", "weights", "effective", "sqrt_sampler", "focal")
    adjusted: list[tuple[Imbalance, float]] = [
        ("balanced_softmax" if tau == 1.0 else "logit_adjustment", tau) for tau in _TAUS
    ]
    return [*((name, 0.0) for name in plain), *adjusted]


def _with_tau(section: LossSection, tau: float) -> LossSection:
    return section.model_copy(update={"tau": tau})


def _held_out(labels: Ints, seed: int) -> NDArray[np.bool_]:
    """(N,) one in five images of every class, rounded down."""
    held = np.zeros(len(labels), np.bool_)
    shuffled = generator(seed, "folds", epoch=2).permutation(len(labels))
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        held[own[: len(own) // _HELD]] = True
    return held


def _tried(
    name: Imbalance, tau: float, logits: NDArray[np.float32], labels: Ints, groups: Mapping[str, NDArray[np.bool_]]
) -> Tried:
    if not len(labels):
        return Tried(name=name, tau=tau, macro=0.0, overall=0.0, groups={})
    right = logits.argmax(axis=1) == labels
    images = np.bincount(labels, minlength=logits.shape[1])
    recall = np.bincount(labels, right, minlength=logits.shape[1]) / np.maximum(images, 1)
    seen = {group: members & (images > 0) for group, members in groups.items()}
    return Tried(
        name=name,
        tau=tau,
        macro=float(recall[images > 0].mean()),
        overall=float(right.mean()),
        groups={group: float(recall[members].mean()) for group, members in seen.items() if members.any()},
    )


def _best(tried: Sequence[Tried]) -> Tried:
    """The best macro accuracy, less the price of what it costs; the first is what the others are compared with."""
    plain = tried[0]

    def worth(row: Tried) -> float:
        return row.macro - PRICE * max(0.0, plain.overall - row.overall - MOST_LOST)

    most = max(map(worth, tried))
    if most < plain.macro + _LEAST_WON - 1e-9:
        return plain
    return max((row for row in tried if worth(row) >= most - _LEAST_WON), key=lambda row: (row.overall, row.macro))


def _none(reason: str) -> RemedyChoice:
    return RemedyChoice(name="none", tau=0.0, tried=(), reason=reason)


def _reason(best: Tried, tried: Sequence[Tried], ratio: float) -> str:
    plain = tried[0]
    told = f"largest class over smallest: {ratio:.0f}; by macro accuracy of a linear head on validation images"
    if best is plain:
        return f"No remedy for unequal classes won more than it cost ({told})."
    strength = f" (tau {best.tau:g})" if best.name == "logit_adjustment" else ""
    return (
        f"{best.name}{strength}: macro accuracy {best.macro:.1%} instead of {plain.macro:.1%}, accuracy "
        f"{best.overall:.1%} instead of {plain.overall:.1%} ({told})."
    )
