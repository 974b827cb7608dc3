"""Clusters by average linkage: two are joined as long as their members are alike on average."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def average_linkage(likeness: Floats, least: float) -> Ints:
    """(N,) the lowest row of each row's cluster, from an (N, N) symmetric matrix; clusters whose average likeness is
    below `least` stay apart.

    Chains of nearest neighbors (Murtagh 1983; Müllner 2011): N^2 operations in all, and the clusters are those of the
    slow way.
    """
    alike = likeness.astype(np.float32, copy=True)
    np.fill_diagonal(alike, -np.inf)
    sizes = np.ones(len(alike))
    into = np.arange(len(alike))
    waiting = np.ones(len(alike), bool)
    chain: list[int] = []
    while waiting.any():
        if not chain:
            chain.append(int(np.argmax(waiting)))
        last = chain[-1]
        best = int(np.argmax(alike[last]))
        before = chain[-2] if len(chain) > 1 else best
        best = before if alike[last, before] >= alike[last, best] else best
        if alike[last, best] < least:
            _leave(alike, last)
            waiting[last] = False
            chain.pop()
        elif len(chain) > 1 and best == before:
            del chain[-2:]
            low, high = sorted((last, best))
            _merge(alike, sizes, low, high)
            into[high] = low
            waiting[high] = False
        else:
            chain.append(best)
    return _named(into)


def _merge(alike: Floats, sizes: NDArray[np.float64], low: int, high: int) -> None:
    """Make row `low` the average of both, weighted by size."""
    mean = (alike[low] * sizes[low] + alike[high] * sizes[high]) / (sizes[low] + sizes[high])
    mean[[low, high]] = -np.inf
    alike[low], alike[:, low] = mean, mean
    sizes[low] += sizes[high]
    _leave(alike, high)


def _leave(alike: Floats, row: int) -> None:
    alike[row], alike[:, row] = -np.inf, -np.inf


def _named(into: Ints) -> Ints:
    """Follow every row to the end of its way; ways lead to lower rows."""
    while True:
        further = into[into]
        if np.array_equal(further, into):
            return into
        into = further
