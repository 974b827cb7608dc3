"""When a canary is ended: it fails, is slow, leaves images to people or contradicts the live one by more than allowed.

The last requests of both are held against each other, in the same stretch of time, so that harder images or a busier
machine change both. A limit counts as broken only where exact bounds say so. The bounds are made so wide that, looked
at again and again for as long as a canary stands, all limits together end a canary that keeps them with a chance of
`chance` at most: look k is held at `chance` x 6 / (pi k)^2, which adds up to `chance` (the union bound, whatever the
looks have in common). That holds for requests that fail, or are slow, independently of each other.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sortal.core.shares import exact_lower, exact_upper

WINDOW = 500
"""Requests to the canary that count, the last ones, and those to the live one in the same time."""
MOST = 20_000
"""Requests to both that count at most."""
BETWEEN = 10
"""New requests to the canary before it is looked at again."""
TAIL = 0.01
"""The share of requests that the 99th percentile leaves above itself."""
_LIMITS = 4
_SMALLEST = 1e-12
"""No look is held at less: the arithmetic of bounds ends there."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much worse than the live classifier a canary may be."""

    errors: float = 0.05
    """By which its share of failed requests may exceed that of the live one."""
    latency: float = 2.0
    """How many times the live one's 99th percentile its own may be."""
    abstained: float = 0.2
    """By which its share of images left to a person may exceed that of the live one."""
    disagreed: float = 0.3
    """The share of images on which the two may name different classes."""
    requests: int = 20
    """So many have to be seen before anything is said."""
    chance: float = 0.01
    """Of ending, ever, a canary that keeps all limits."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request as one of the two answered it."""

    canary: bool
    failed: bool
    seconds: float = 0.0
    abstained: bool = False
    """Of the first image."""


@dataclass(kw_only=True)
class _Arm:
    """What one of the two did in the window."""

    total: int = 0
    failed: int = 0
    abstained: int = 0
    times: deque[float] = field(default_factory=deque)
    """Seconds of each answer, in order."""

    def add(self, seen: Seen, count: int) -> None:
        """Count a request that enters the window (1) or leaves it (-1)."""
        self.total += count
        self.failed += count * seen.failed
        self.abstained += count * (seen.abstained and not seen.failed)
        if not seen.failed:
            self.times.append(seen.seconds) if count > 0 else self.times.popleft()

    @property
    def seconds(self) -> NDArray[np.float64]:
        return np.array(self.times, np.float64)


class Guard:
    """Watches one canary."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._seen: deque[Seen] = deque()
        self._canary, self._live = _Arm(), _Arm()
        self._compared: deque[bool] = deque(maxlen=WINDOW)
        self._new = self._looks = 0

    def note(self, seen: Seen) -> None:
        """A request had its answer, or failed."""
        self._seen.append(seen)
        self._of(seen).add(seen, 1)
        self._new += seen.canary
        while self._canary.total > WINDOW or len(self._seen) > MOST:
            gone = self._seen.popleft()
            self._of(gone).add(gone, -1)

    def compare(self, *, same: bool) -> None:
        """An image was answered by both; `same`: with the same class."""
        self._compared.append(same)

    def reason(self) -> str | None:
        """Which limit is broken, in words; None where none is, or it is not time to look."""
        if self._canary.total < self._limits.requests or self._new < BETWEEN:
            return None
        self._new = 0
        self._looks += 1
        level = max(self._limits.chance / _LIMITS * 6 / (math.pi * self._looks) ** 2, _SMALLEST)
        return self._failing(level) or self._doubtful(level) or self._contradicting(level) or self._slow(level)

    def _failing(self, level: float) -> str | None:
        own, other = ((arm.failed, arm.total) for arm in (self._canary, self._live))
        if not exceeds(own, other, self._limits.errors, level):
            return None
        return f"it failed {_told(own)} requests, the live one {_told(other)}"

    def _doubtful(self, level: float) -> str | None:
        own, other = ((arm.abstained, len(arm.times)) for arm in (self._canary, self._live))
        if not exceeds(own, other, self._limits.abstained, level):
            return None
        return f"it left {_told(own)} images to a person, the live one {_told(other)}"

    def _contradicting(self, level: float) -> str | None:
        own = (self._compared.count(False), len(self._compared))
        if own[1] < self._limits.requests or not exceeds(own, None, self._limits.disagreed, level):
            return None
        return f"it named another class than the live one for {_told(own)} images"

    def _slow(self, level: float) -> str | None:
        own, other = self._canary.seconds, self._live.seconds
        if not slower(own, other, self._limits.latency, level):
            return None
        mine, theirs = (1e3 * float(np.quantile(one, 1 - TAIL)) for one in (own, other))
        return f"its 99th percentile is {mine:.0f} ms, that of the live one {theirs:.0f} ms"

    def _of(self, seen: Seen) -> _Arm:
        return self._canary if seen.canary else self._live


Share = tuple[int, int]
"""(how many, of how many)."""


def exceeds(own: Share, other: Share | None, margin: float, level: float) -> bool:
    """Whether the first share is above the second (or 0) by more than `margin`, by exact bounds: with a chance of
    `level` at most where it is not."""
    count, total = own
    there = 0.0 if other is None or not other[1] else other[0] / other[1]
    if not total or (other is not None and not other[1]) or count / total <= there + margin:
        return False
    if other is None:
        return float(exact_lower(count, total, 1 - level)) > margin
    below, above = exact_lower(count, total, 1 - level / 2), exact_upper(*other, 1 - level / 2)
    return float(below) - float(above) > margin


def slower(own: NDArray[np.float64], other: NDArray[np.float64], ratio: float, level: float) -> bool:
    """Whether the 99th percentile of the first latencies is above `ratio` times that of the others: with a chance of
    `level` at most where it is not. Of the others several hundred are needed."""
    limit = upper_tail(other, level / 2)
    if limit is None or not own.size:
        return False
    late = int((own > ratio * limit).sum())
    return late > TAIL * own.size and float(exact_lower(late, own.size, 1 - level / 2)) > TAIL


def upper_tail(values: NDArray[np.float64], level: float) -> float | None:
    """A value that the 99th percentile exceeds with a chance of `level` at most; None where they are too few.

    By order: so many of N values lie above the percentile as a binomial (N, 0.01) says.
    """
    above = np.arange(math.ceil(TAIL * values.size) + 1)
    sure = np.flatnonzero(exact_upper(above, values.size, 1 - level) <= TAIL) if values.size else above[:0]
    return None if not sure.size else float(np.sort(values)[::-1][sure[-1]])


def _told(share: Share) -> str:
    return f"{share[0]:,} of {share[1]:,}"
