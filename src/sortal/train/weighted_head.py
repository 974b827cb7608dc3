"""Linear heads on features of unequal classes: every remedy as a weighted objective or as other features.

Shapes: N training images, D features, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.sections import Imbalance, LossSection
from sortal.train.losses import class_weights, logit_offsets
from sortal.train.probe import Adjustment, LinearHead, fit_head
from sortal.train.randomness import generator
from sortal.train.sampling import FILL_TO, make_sampler

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NEIGHBORS = 5


def fit_weighted_head(
    features: NDArray[Any],
    labels: Ints,
    classes: int,
    *,
    strength: float,
    remedy: Imbalance,
    section: LossSection,
    seed: int,
) -> LinearHead:
    """A linear head on features (N, D), fitted with the remedy.

    A remedy that changes what an epoch consists of becomes what it comes to in the mean: `sampler` and `crt` (Kang et
    al. 2020: the classifier trained anew, balanced) weigh every class the same, `sqrt_sampler` by the square root of
    its images, `smote` and `mixup_rare` add features, `undersample` leaves images out.
    """
    features, labels = resampled(features, labels, classes, remedy, seed)
    adjustment = adjustment_of(remedy, labels, classes, section)
    return fit_head(features, labels, classes, strength=strength, adjustment=adjustment)


def adjustment_of(remedy: Imbalance, labels: Ints, classes: int, section: LossSection) -> Adjustment:
    """What the remedy comes to in the objective of a linear head on features with `labels` (N,)."""
    counts = np.bincount(labels, minlength=classes)
    gamma = section.gamma if "focal" in (remedy, section.name) else 0.0
    if remedy in ("sampler", "crt", "weights"):
        return Adjustment(weights=class_balanced_weights(labels, classes), gamma=gamma)
    if remedy == "sqrt_sampler":
        weights = (1.0 / np.sqrt(np.maximum(counts, 1)))[labels]
        return Adjustment(weights=weights / weights.mean(), gamma=gamma)
    if remedy == "effective":
        return Adjustment(weights=class_weights(counts, "effective", beta=section.beta)[labels], gamma=gamma)
    if remedy in ("balanced_softmax", "logit_adjustment"):
        return Adjustment(offsets=logit_offsets(counts, remedy, tau=section.tau).astype(np.float64), gamma=gamma)
    return Adjustment(gamma=gamma)


def class_balanced_weights(labels: Ints, classes: int) -> Floats:
    """(N,) weights of mean 1 that give every class that has images the same share."""
    return np.asarray(class_weights(np.bincount(labels, minlength=classes), "weights")[labels])


def smote(
    features: NDArray[Any], labels: Ints, classes: int, *, seed: int, target: int | None = None
) -> tuple[NDArray[np.float32], Ints]:
    """Features (N + M, D) and labels with every class filled up to `target`, by default the largest class.

    Chawla et al. 2002, "SMOTE: synthetic minority over-sampling technique": a new point lies at a random place between
    a point and one of its five nearest neighbors of the same class. A class with a single image is repeated. For
    features of training images only: points made of pixels are no images, and ones made before a split leak.
    """
    counts = np.bincount(labels, minlength=classes)
    wanted = int(counts.max()) if target is None else target
    parts, names = [features.astype(np.float32)], [labels]
    for label in np.flatnonzero((counts > 0) & (counts < wanted)).tolist():
        own, more = features[labels == label].astype(np.float32), wanted - int(counts[label])
        parts.append(_between(own, more, generator(seed, "folds", epoch=1, index=label)))
        names.append(np.full(more, label))
    return np.concatenate(parts), np.concatenate(names)


def resampled(
    features: NDArray[Any], labels: Ints, classes: int, remedy: Imbalance, seed: int
) -> tuple[NDArray[Any], Ints]:
    """Features and labels as a remedy that changes what an epoch consists of makes them; others change nothing."""
    if remedy == "smote":
        return smote(features, labels, classes, seed=seed)
    if remedy == "mixup_rare":
        target = min(FILL_TO, int(np.bincount(labels).max()))
        return smote(features, labels, classes, seed=seed, target=target)
    if remedy == "undersample":
        kept = np.sort(make_sampler("undersample", labels, classes, seed).epoch(0).samples)
        return features[kept], labels[kept]
    return features, labels


def _between(own: NDArray[np.float32], more: int, random: np.random.Generator) -> NDArray[np.float32]:
    """`more` new points between points of one class and their neighbors."""
    begins = np.resize(random.permutation(len(own)), more)
    if len(own) == 1:
        return own[begins]
    squares = (own * own).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * own @ own.T
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1, kind="stable")[:, : min(_NEIGHBORS, len(own) - 1)]
    ends = near[begins, random.integers(0, near.shape[1], more)]
    places = random.random((more, 1), dtype=np.float32)
    return np.asarray(own[begins] + places * (own[ends] - own[begins]), np.float32)
