"""How far people agree beyond chance: kappa for two and for more readers. Arrays in, numbers out.

Shapes: N items, K classes, R readers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """`kappa` is 1 for full agreement and 0 for what chance would give; None where all readings are one class."""

    items: int
    same: float
    """Share of pairs of readings that agree."""
    kappa: float | None
    low: float | None
    high: float | None
    """Ends of the 95 % interval (normal approximation)."""


def cohen_kappa(one: Ints, other: Ints, classes: int) -> Agreement:
    """Of two readers' classes (N,) each. Cohen (1960), "A coefficient of agreement for nominal scales"; the interval
    from its equation 7."""
    shares = [np.bincount(reader, minlength=classes) / max(len(one), 1) for reader in (one, other)]
    same = float((one == other).mean()) if len(one) else 0.0
    return _agreement(len(one), same, float(shares[0] @ shares[1]), len(one))


def fleiss_kappa(counts: Ints) -> Agreement:
    """Of counts (N, K): how many readings put an item into a class; items with fewer than two readings do not count.

    Fleiss (1971), "Measuring nominal scale agreement among many raters"; items may differ in their number of readings.
    """
    counts = counts[counts.sum(1) >= 2]
    readings = counts.sum(1)
    if not len(counts):
        return _agreement(0, 0.0, 1.0, 0)
    agree = (counts * (counts - 1)).sum(1) / (readings * (readings - 1))
    shares = counts.sum(0) / counts.sum()
    return _agreement(len(counts), float(agree.mean()), float(np.square(shares).sum()), len(counts))


def _agreement(items: int, same: float, chance: float, n: int) -> Agreement:
    if not n or chance >= 1.0:
        return Agreement(items=items, same=same, kappa=None, low=None, high=None)
    kappa = (same - chance) / (1.0 - chance)
    half = 1.96 * math.sqrt(max(same * (1.0 - same), 0.0) / n) / (1.0 - chance)
    return Agreement(items=items, same=same, kappa=kappa, low=max(-1.0, kappa - half), high=min(1.0, kappa + half))
