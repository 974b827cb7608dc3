"""Which candidates are worth their price, and which one to take. Numbers in, choices out.

The pick is the smallest file that keeps the budget and the contract; files within 5 % of the smallest count as equally
small (another input size changes the time, hardly the file), and the fastest of them is taken.

Choosing among many on one list of images flatters the chosen. As in the one-standard-error rule (Breiman et al. 1984,
"Classification and regression trees", section 3.4.3) a candidate is therefore preferred whose drop and one standard
error of it are within the budget; only where no smaller network passes that way does the measured drop alone decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.compare.paired import sums_by

AS_SMALL = 1.05


@dataclass(frozen=True, kw_only=True)
class Point:
    """A candidate in numbers."""

    accuracy: float
    ms: float
    size_bytes: int
    keeps: bool
    """The budget and the contract, as measured."""
    steady: bool
    """The budget with one standard error added to the drop."""
    original: bool = False


@dataclass(frozen=True, kw_only=True)
class Pick:
    """Which one, and whether it passed with a standard error to spare."""

    place: int
    steady: bool


def pareto(points: Sequence[Point]) -> tuple[bool, ...]:
    """Whether each is worth its price: no other is at least as accurate, fast and small, and better in one of them."""
    return tuple(not any(_dominates(other, one) for other in points) for one in points)


def pick(points: Sequence[Point]) -> Pick | None:
    """The one to take; None where none but the original keeps what is asked."""
    for steady in (True, False):
        good = [n for n, one in enumerate(points) if one.keeps and not one.original and (one.steady or not steady)]
        if good:
            least = min(points[n].size_bytes for n in good)
            small = [n for n in good if points[n].size_bytes <= AS_SMALL * least]
            return Pick(place=min(small, key=lambda n: points[n].ms), steady=steady)
    return None


def standard_error(lost: NDArray[np.int64], groups: NDArray[np.int64] | None) -> float:
    """Of the mean of N paired differences (N,) of -1, 0 or 1, by images or by groups (N,) that belong together.

    In points. Where no image changed sides it is 0: then the interval tells what the images cannot rule out.
    """
    n = len(lost)
    if n < 2:
        return 0.0
    sums = lost if groups is None else sums_by(lost, groups)
    sizes = np.ones(n, np.int64) if groups is None else sums_by(np.ones(n, np.int64), groups)
    units = len(sums)
    if units < 2:
        return 0.0
    gaps = sums - sizes * (lost.sum() / n)
    return 100 * math.sqrt(float(np.square(gaps).sum()) * units / (units - 1)) / n


def _dominates(one: Point, other: Point) -> bool:
    mine, theirs = ((-point.accuracy, point.ms, point.size_bytes) for point in (one, other))
    return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs
