"""Nearest neighbors among features, blocked matrix products at a time: memory does not grow with the rows.

Shapes: N rows, R references, D features, K neighbors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Neighborhood:
    """Of each of N rows its K nearest references."""

    squares: Singles
    """(N, K) squared Euclidean distances, ascending; infinite where there is no other reference."""
    references: Ints
    """(N, K) positions among the references."""


def references(count: int, most: int, *, seed: int = 0) -> Ints:
    """At most `most` of `count` rows, in order: all, or a sample."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.Generator(np.random.Philox(key=seed)).permutation(count)[:most])


def nearest(features: Singles, chosen: Ints, units: Ints, *, count: int) -> Neighborhood:
    """The `count` nearest of the references `chosen` (R,), rows of (N, D) features. Rows of one of the `units`
    (N,) are no neighbors of each other, so no row is its own."""
    count = min(count, len(chosen) - 1)
    targets = features[chosen]
    lengths = np.einsum("rd,rd->r", targets, targets)
    squares, found = np.empty((len(features), count), np.float32), np.empty((len(features), count), np.int64)
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        values = lengths - 2.0 * (features[block] @ targets.T)
        values[units[block, None] == units[chosen]] = np.inf
        part = np.argpartition(values, count - 1, axis=1)[:, :count]
        part = np.take_along_axis(part, np.argsort(np.take_along_axis(values, part, axis=1), axis=1), axis=1)
        own = np.einsum("nd,nd->n", features[block], features[block])
        squares[block] = np.maximum(np.take_along_axis(values, part, axis=1) + own[:, None], 0.0)
        found[block] = part
    return Neighborhood(squares=squares, references=found)
