"""What chance looks like: pairs that belong together by nothing, beside which likeness that was found is judged.

A threshold is the lowest above which at most a tenth of what it takes would be taken by chance too (the false discovery
rate by decoys: Elias and Gygi 2007).

Shapes: N rows, P pairs, D numbers of a vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.data.candidates import Floats, Ints, products

FALSE_SHARE = 0.1
"""Share of what is taken for one burst that may be chance."""
LEAST_PAIRS = 20
"""Pairs above a threshold below which it is not believed."""
DECOYS = 200_000


def threshold(found: NDArray[np.floating[Any]], decoys: NDArray[np.floating[Any]]) -> float | None:
    """The lowest value above which decoys are at most FALSE_SHARE as frequent as what was found; None where there is
    none, or too little above it."""
    if len(found) < LEAST_PAIRS or not len(decoys):
        return None
    levels = np.unique(np.quantile(found, np.linspace(0.0, 1.0, 400)))
    above = 1 - np.searchsorted(np.sort(found), levels) / len(found)
    chance = 1 - np.searchsorted(np.sort(decoys), levels) / len(decoys)
    fits = (chance <= FALSE_SHARE * above) & (above * len(found) >= LEAST_PAIRS)
    return float(levels[np.argmax(fits)]) if fits.any() else None


def mirrored(found: NDArray[np.floating[Any]]) -> float | None:
    """The threshold by the values themselves: decoys are those that are as far below the middle as others above it."""
    middle = float(np.median(found)) if len(found) else 0.0
    above = threshold(found - middle, middle - found)
    return None if above is None else middle + above


def within_classes(labels: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Random pairs of one class: `rows` (P,), each several times with another row of its class."""
    generator = np.random.Generator(np.random.Philox(key=0))
    known = np.flatnonzero(labels >= 0)
    order = known[np.argsort(labels[known], kind="stable")]
    counts = np.bincount(labels[known], minlength=1)
    starts = np.cumsum(counts) - counts
    first = np.tile(rows, max(1, min(40, DECOYS // max(len(rows), 1))))
    second = order[starts[labels[first]] + generator.integers(0, counts[labels[first]])]
    return first[first != second], second[first != second]


def across_classes(vectors: Floats, labels: Ints, rows: Ints) -> Floats:
    """Likeness of random pairs of `rows` that are of different classes; empty where all are of one."""
    generator = np.random.Generator(np.random.Philox(key=1))
    first, second = (rows[generator.integers(0, len(rows), DECOYS)] for _ in range(2))
    other = labels[first] != labels[second]
    return np.asarray(products(vectors, first[other], second[other]), np.float32)
