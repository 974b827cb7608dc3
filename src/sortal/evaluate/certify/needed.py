"""How many labelled images it takes: to show a share at all, and to settle a clause that is undecided."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from sortal.core.shares import exact_upper
from sortal.evaluate.certify.clauses import Clause, Slowest
from sortal.evaluate.certify.rates import Rate
from sortal.evaluate.latency import PERCENTILE, calls_needed

MOST = 2_000_000
"""Beyond so many images nobody will ask."""


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What would settle a clause if the rate stays as observed."""

    more: int | None
    """Further ones to be labelled (or measured); None where no number up to `MOST` would."""
    of: str
    """What they are, in the plural."""
    outcome: str = "kept"
    """Which verdict that would be."""


def images_needed(share: float, misses: int = 0, confidence: float = 0.95) -> int:
    """The fewest images that show a share (recall, accuracy) of at least `share` with that many misses among them.

    149 for 98 % without a miss, 236 with one. Raises ValueError where no number would: a share of 1.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"no number of images shows a share of {share:g}")
    limit = 1.0 - share
    return _fewest(lambda n: n >= misses and float(exact_upper(misses, n, confidence)) <= limit, max(misses, 1))


def needed_for(clause: Clause, confidence: float) -> Needed:
    """What an undecided clause takes."""
    bad = clause.bad
    if isinstance(bad, Slowest):
        further = calls_needed(PERCENTILE, confidence) - bad.count
        return Needed(more=further if further > 0 else None, of=clause.of)
    if not isinstance(bad, Rate):
        return Needed(more=None, of=clause.of)
    if clause.missing:
        return _of_missing(clause, bad, confidence)
    if bad.value is None:
        return Needed(more=images_needed(1 - clause.limit, 0, confidence) if clause.limit > 0 else None, of=clause.of)
    if bad.value == clause.limit or (clause.limit == 0 and not bad.value):
        return Needed(more=None, of=clause.of)
    hopeful = bad.value < clause.limit
    total = _fewest_factor(bad, clause.limit, confidence, hopeful=hopeful)
    more = None if total is None else max(1, math.ceil(bad.count * (total - 1) - 1e-6))
    return Needed(more=more, of=clause.of, outcome="kept" if hopeful else "broken")


def _of_missing(clause: Clause, bad: Rate, confidence: float) -> Needed:
    """Images of the class that weighs most and is not there, none of them bad: until its weight is no worse than that
    of others, or the limit is met."""
    name, share = max(clause.missing, key=lambda pair: pair[1])
    own = replace(bad, unseen=0.0)

    def settled(n: int) -> bool:
        heaviest = share / n
        there = replace(own, value=bad.value or 0.0, heaviest=max(bad.heaviest, heaviest), hits=None)
        return there.stays_below(clause.limit, confidence) or heaviest <= bad.heaviest

    return Needed(more=_fewest(settled, 1), of=f"images of {name}")


def _fewest_factor(bad: Rate, limit: float, confidence: float, *, hopeful: bool) -> float | None:
    def settled(factor: float) -> bool:
        more = bad.scaled(factor)
        return more.stays_below(limit, confidence) if hopeful else more.p_below(limit) < 1 - confidence

    low, high = 1.0, 2.0
    while not settled(high):
        low, high = high, 2 * high
        if bad.count * high > MOST:
            return None
    while (high - low) * bad.count > max(0.5, 1e-4 * low * bad.count):
        middle = (low + high) / 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high


def _fewest(settled: Callable[[int], bool], start: int) -> int:
    """The smallest n from `start` on, of a condition that stays true once it is."""
    if settled(start):
        return start
    low, high = start, 2 * start
    while not settled(high):
        low, high = high, 2 * high
        if high > 5000 * MOST:
            raise ValueError("no number of images is enough")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high
