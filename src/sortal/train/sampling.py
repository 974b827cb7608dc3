"""Which images an epoch consists of: each once in random order, or rare classes more often.

A plan is a pure function of (seed, epoch), so a run that was broken off goes on with the same images, and the processes
of a team cut their parts out of the same plan. Every plan of a sampler has the same length.

Shapes: N training images, M images of an epoch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import RecipeError
from sortal.train.randomness import generator, order

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FILL_TO = 100
"""`mixup_rare` and `oversample` fill classes up to so many images, though never above the largest class."""

KEPT_RATIO = 10.0
"""`undersample` keeps at most so many times the images of the smallest class."""


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """What one epoch consists of."""

    samples: Ints
    """(M,) sample numbers in order."""
    partners: Ints | None = None
    """(M,) another sample of the same class that the image is mixed with, -1 for none."""


class Sampler(Protocol):
    """Makes the plan of any epoch from its number alone."""

    @property
    def length(self) -> int:
        """M, the same in every epoch."""
        ...

    def epoch(self, epoch: int) -> EpochPlan:
        """The plan of an epoch, counted from 0."""
        ...


def make_sampler(
    remedy: str,
    labels: Ints,
    classes: int,
    seed: int,
    *,
    ratio: float = KEPT_RATIO,
    target: int = FILL_TO,
    ramp_epochs: int = 0,
) -> Sampler:
    """The sampler of a remedy for unequal class sizes, for `labels` (N,) of the training images.

    `sampler` and `sqrt_sampler` draw N images an epoch, classes alike or by the square root of their images, over the
    first `ramp_epochs` epochs moving there from the images as they are. `undersample` keeps of each class at most
    `ratio` times the images of the smallest, others every epoch. `mixup_rare` and `oversample` fill classes up to
    `target`. Every other remedy takes each image once: it acts on the loss or on the head. Raises RecipeError for
    `auto`, which has to be decided before.
    """
    if remedy == "auto":
        raise RecipeError("the remedy has to be chosen before training", where="loss.imbalance", received="auto")
    counts = np.bincount(labels, minlength=classes)
    if remedy in ("sampler", "sqrt_sampler"):
        wanted = counts ** (0.5 if remedy == "sqrt_sampler" else 0.0) * (counts > 0)
        return Balanced(labels=labels, shares=wanted / wanted.sum(), seed=seed, ramp_epochs=ramp_epochs)
    if remedy == "undersample":
        return Reduced(labels=labels, most=max(1, int(ratio * counts[counts > 0].min())), seed=seed)
    if remedy in ("mixup_rare", "oversample"):
        fill = min(target, int(counts.max()))
        return Filled(labels=labels, classes=classes, target=fill, mixed=remedy == "mixup_rare", seed=seed)
    return Plain(length=len(labels), seed=seed)


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Every image once."""

    length: int
    seed: int

    def epoch(self, epoch: int) -> EpochPlan:
        """See `Sampler.epoch`."""
        return EpochPlan(samples=order(self.seed, epoch=epoch, count=self.length))


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """N images, classes by `shares`, images of a class alike.

    Systematic sampling (Kitagawa 1996): the chance of an image is that of drawing with replacement, but what an epoch
    holds of a class differs from its share by less than one image, and images of a class come equally often, give or
    take one.
    """

    labels: Ints
    shares: Floats
    """(C,) of the epoch, summing to 1; 0 for classes without images."""
    seed: int
    ramp_epochs: int = 0

    @property
    def length(self) -> int:
        """N."""
        return len(self.labels)

    def shares_at(self, epoch: int) -> Floats:
        """(C,) what `epoch` draws: from the images as they are to `shares` over `ramp_epochs` (Kang et al. 2020,
        "Decoupling representation and classifier", progressively-balanced sampling)."""
        counts = np.bincount(self.labels, minlength=len(self.shares))
        way = 1.0 if self.ramp_epochs == 0 else min(1.0, epoch / self.ramp_epochs)
        return np.asarray((1.0 - way) * counts / counts.sum() + way * self.shares)

    def updated(self, recall: Floats) -> Balanced:
        """With shares moved towards the classes that are found least often: times 2 - recall (C,), 0 to 1.

        What it returns is all there is to keep: `shares` in a checkpoint makes a resumed run the same.
        """
        moved = self.shares * (2.0 - recall)
        return replace(self, shares=moved / moved.sum())

    def epoch(self, epoch: int) -> EpochPlan:
        """See `Sampler.epoch`."""
        random = generator(self.seed, "order", epoch=epoch)
        shuffled = random.permutation(len(self.labels))
        by_class = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        counts = np.maximum(np.bincount(self.labels, minlength=len(self.shares)), 1)
        ends = np.cumsum((self.shares_at(epoch) / counts)[self.labels[by_class]])
        points = (np.arange(self.length) + random.random()) / self.length * ends[-1]
        drawn = by_class[np.minimum(np.searchsorted(ends, points, side="right"), self.length - 1)]
        return EpochPlan(samples=random.permutation(drawn))


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """At most `most` images of each class, others every epoch."""

    labels: Ints
    most: int
    seed: int

    @property
    def length(self) -> int:
        """Images left."""
        return int(np.minimum(np.bincount(self.labels), self.most).sum())

    def epoch(self, epoch: int) -> EpochPlan:
        """See `Sampler.epoch`."""
        shuffled = order(self.seed, epoch=epoch, count=len(self.labels))
        return EpochPlan(samples=shuffled[_rank(self.labels[shuffled]) < self.most])


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Every image once, and more images of classes under `target`: mixed from two of the class, or varied copies.

    Both keep the label, so what is added is added to its class. A class with a single image is always copied.
    """

    labels: Ints
    classes: int
    target: int
    mixed: bool
    seed: int

    @property
    def length(self) -> int:
        """Images and what is added to them."""
        return len(self.labels) + int(self.added.sum())

    @property
    def added(self) -> Ints:
        """(C,) how many mixtures or copies an epoch adds to each class; none to a class without images."""
        counts = np.bincount(self.labels, minlength=self.classes)
        return np.where(counts > 0, np.maximum(self.target - counts, 0), 0)

    def epoch(self, epoch: int) -> EpochPlan:
        """See `Sampler.epoch`."""
        random = generator(self.seed, "order", epoch=epoch)
        added = [self._more(random, int(label)) for label in np.flatnonzero(self.added)]
        samples = np.concatenate([np.arange(len(self.labels)), *(first for first, _ in added)])
        partners = np.concatenate([np.full(len(self.labels), -1), *(second for _, second in added)])
        places = random.permutation(len(samples))
        return EpochPlan(samples=samples[places], partners=partners[places] if self.mixed else None)

    def _more(self, random: np.random.Generator, label: int) -> tuple[Ints, Ints]:
        """Samples in turn, in random order, each with a random other one of its class."""
        own = random.permutation(np.flatnonzero(self.labels == label))
        turn = np.arange(self.added[label]) % len(own)
        if len(own) == 1:
            return own[turn], np.full(len(turn), -1)
        other = (turn + random.integers(1, len(own), len(turn))) % len(own)
        return own[turn], own[other]


def _rank(labels: Ints) -> Ints:
    """(N,) how many of the same label stand before each."""
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
