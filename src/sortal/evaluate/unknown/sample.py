"""A sample of images in which every class has its part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def stratified(labels: Ints, most: int, *, seed: int) -> Ints:
    """Sorted positions of at most `most` of the labels (N,), drawn class by class in turn: small classes are kept whole
    before a large one has more."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for index in np.unique(labels):
        own = order[labels[order] == index]
        turn[own] = np.arange(len(own))
    by_turn = order[np.argsort(turn[order], kind="stable")]
    return np.sort(by_turn[:most])
