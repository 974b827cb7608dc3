"""Do prediction sets hold what they promise? Coverage with its interval, size, and both by class, on labeled images.

The sets themselves are made in `core.conformal`, which says why its score was taken.

Shapes: N images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.conformal import ConformalScores, conformal_scores
from sortal.core.shares import wilson

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SetQuality:
    """What sets of some level come to on labeled images."""

    level: float
    coverage: float
    """Share of images whose set holds the true class."""
    low: float
    high: float
    """Its interval (Wilson)."""
    mean_size: float
    empty: float
    """Share of empty sets."""
    single: float
    """Share of sets of one class."""
    by_class: NDArray[np.float64]
    """(C,) coverage of each class; NaN without images."""
    images: int


def judge_sets(sets: NDArray[np.bool_], labels: Ints, *, level: float, confidence: float = 0.95) -> SetQuality:
    """From sets (N, C) and true classes (N,), at least one image."""
    hit = sets[np.arange(len(labels)), labels]
    sizes = sets.sum(axis=1)
    counts = np.bincount(labels, minlength=sets.shape[1]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        by_class = np.bincount(labels, hit, minlength=sets.shape[1]) / counts
    low, high = wilson(int(hit.sum()), len(labels), confidence)
    return SetQuality(
        level=level,
        coverage=float(hit.mean()),
        low=float(low),
        high=float(high),
        mean_size=float(sizes.mean()),
        empty=float((sizes == 0).mean()),
        single=float((sizes == 1).mean()),
        by_class=by_class,
        images=len(labels),
    )


def split_coverage(
    chances: NDArray[np.float32],
    labels: Ints,
    *,
    level: float,
    share: float = 0.5,
    repeats: int = 20,
    by_class: bool = False,
    seed: int = 0,
) -> list[SetQuality]:
    """Divide images (N, C) at random, calibrate on one part, judge on the other, several times."""
    found = []
    for repeat in range(repeats):
        order = np.random.default_rng([seed, repeat]).permutation(len(labels))
        cut = round(share * len(labels))
        scores: ConformalScores = conformal_scores(chances[order[:cut]], labels[order[:cut]])
        sets = scores.sets(chances[order[cut:]], level, by_class=by_class)
        found.append(judge_sets(sets, labels[order[cut:]], level=level))
    return found
