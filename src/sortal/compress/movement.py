"""How far a candidate's answers move from float32's. No label is needed, so training images can take part: they are
many, and every probability of each counts, where the accuracy of a short validation list hangs on a few images.

A drop of accuracy is at most the share of changed decisions. float32 knows its training images and is surer about them
than about new ones, so that fewer decisions change there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Movement:
    """Distances of a candidate's answers from float32's on the same images."""

    images: int
    changed: int
    """Images that are decided otherwise: another answer, or answered instead of left to a person, or the reverse."""
    divergence: float
    """Mean Kullback-Leibler divergence of its probabilities from float32's, in nats."""
    margin_shift: float
    """Mean absolute change of the margin, the highest probability minus the second."""

    @property
    def share(self) -> float:
        """Of images that are decided otherwise."""
        return self.changed / max(self.images, 1)

    def joined(self, other: Movement) -> Movement:
        """Both lists of images as one."""
        n = self.images + other.images
        part = self.images / max(n, 1)
        return Movement(
            images=n,
            changed=self.changed + other.changed,
            divergence=part * self.divergence + (1 - part) * other.divergence,
            margin_shift=part * self.margin_shift + (1 - part) * other.margin_shift,
        )


def movement(original: Predictions, candidate: Predictions) -> Movement:
    """How far `candidate` moves from `original`, both about the same images."""
    shifts = np.abs(original.margin.astype(np.float64) - candidate.margin)
    return Movement(
        images=len(original),
        changed=len(changed_decisions(original, candidate)),
        divergence=divergence(original, candidate),
        margin_shift=float(shifts.mean()),
    )


def changed_decisions(original: Predictions, candidate: Predictions) -> NDArray[np.int64]:
    """Rows that are decided otherwise."""
    return np.flatnonzero((original.index != candidate.index) | (original.abstained != candidate.abstained))


def divergence(original: Predictions, candidate: Predictions) -> float:
    """Mean Kullback-Leibler divergence of the candidate's probabilities from the original's, in nats."""
    p, q = (np.maximum(one.probabilities.astype(np.float64), 1e-9) for one in (original, candidate))
    return float((p * np.log(p / q)).sum(axis=1).mean())
