"""How far a candidate's answers move from float32's, told by all images instead of the few whose answer changes.

The lead is the log-odds of float32's likeliest class over its second. How much int8 changes it does not depend on how
sure float32 is, so that training images, which it knows by heart, tell as much as new ones; their probabilities and
decisions hardly move. No label is needed for any of this.

Shapes: N images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions

Floats = NDArray[np.float64]

_LEAST = 1e-30
"""Smaller probabilities are as good as zero."""


def changed_decisions(original: Predictions, candidate: Predictions) -> NDArray[np.int64]:
    """Rows that are decided otherwise: another answer, or answered instead of left to a person, or the reverse."""
    return np.flatnonzero((original.index != candidate.index) | (original.abstained != candidate.abstained))


def leads(original: Predictions, answers: Predictions) -> Floats:
    """(N,) log-odds in `answers` of the original's likeliest class over the original's second; 0 for one class."""
    if original.probabilities.shape[1] < 2:
        return np.zeros(len(original))
    pairs, _ = original.top_k(2)
    chosen = np.take_along_axis(answers.probabilities, pairs, axis=1).astype(np.float64)
    logs = np.log(np.maximum(chosen, _LEAST))
    found: Floats = logs[:, 0] - logs[:, 1]
    return found


def lead_shifts(original: Predictions, candidate: Predictions) -> Floats:
    """(N,) by how much the candidate changes each lead; below 0 where it is less sure of the original's answer."""
    found: Floats = leads(original, candidate) - leads(original, original)
    return found


def mean_shift(original: Predictions, candidate: Predictions) -> float:
    """Mean absolute change of the leads: how far answers move."""
    return float(np.abs(lead_shifts(original, candidate)).mean())


def expected_changes(original: Predictions, candidate: Predictions) -> float:
    """Share of answers that change on images like these: every shift seen, on every lead seen. Of N images this makes
    N² cases, where a count of the N that changed is chance while they are few."""
    shifts, ahead = lead_shifts(original, candidate), leads(original, original)
    lost = np.searchsorted(np.sort(shifts), -ahead, side="left")  # shifts below minus the lead
    return float(lost.mean() / max(len(shifts), 1))
