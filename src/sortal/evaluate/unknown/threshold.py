"""From scores of known images to the score above which an image is unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A score, and the share of known images that it calls unknown at most, on average over calibration images."""

    value: float
    rate: float


def threshold_for(scores: NDArray[np.float64], rate: float) -> Threshold:
    """The k-th smallest of n known scores, k = ceil((n + 1)(1 - rate)): of known images like these at most `rate` lie
    above it (Vovk et al. 2005, conformal prediction), averaged over draws of the n.

    Fewer than 1/rate - 1 scores cannot promise that: then it is the largest, and the rate that holds is 1 / (n + 1).
    """
    count = len(scores)
    place = math.ceil((count + 1) * (1.0 - rate) - 1e-9)
    if place > count:
        return Threshold(value=float(scores.max()), rate=1.0 / (count + 1))
    return Threshold(value=float(np.partition(scores, place - 1)[place - 1]), rate=rate)
