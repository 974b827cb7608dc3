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
from numpy.typing import ArrayLike, NDArray

from sortal.core.incomplete_beta import log_beta_cdf
from sortal.core.shares import exact_upper

Floats = NDArray[np.float64]

SHORT, LONG = 100, 2_000
"""Requests to the canary that count, the last ones: few tell soon what breaks, many tell what is a little worse."""
MOST = 20_000
"""Requests to both that count at most."""
BETWEEN = 10
"""New requests to the canary before it is looked at again."""
TAILS = {"median": 0.5, "99th percentile": 0.01}
"""What latencies are compared by: the share of requests above it. A median is known after few requests."""
_QUESTIONS = 8
"""Failed, left to a person and contradicted, each in both windows, and slow at both places in the long one."""
_SMALLEST = 1e-12
"""No look is held at less: the arithmetic of bounds ends there."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much worse than the live classifier a canary may be."""

    errors: float = 0.05
    """By which its share of failed requests may exceed that of the live one."""
    latency: float = 2.0
    """How many times the live one's latency its own may be, at the median and at the 99th percentile."""
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
    def seconds(self) -> Floats:
        return np.array(self.times, np.float64)


class _Window:
    """The last requests: `most` to the canary, and those to the live one in the same time."""

    def __init__(self, most: int):
        self.canary, self.live = _Arm(), _Arm()
        self._most = most
        self._seen: deque[Seen] = deque()

    def note(self, seen: Seen) -> None:
        self._seen.append(seen)
        self._of(seen).add(seen, 1)
        while self.canary.total > self._most or len(self._seen) > MOST:
            gone = self._seen.popleft()
            self._of(gone).add(gone, -1)

    def _of(self, seen: Seen) -> _Arm:
        return self.canary if seen.canary else self.live


class Guard:
    """Watches one canary."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._windows = (_Window(SHORT), _Window(LONG))
        self._compared: deque[bool] = deque(maxlen=LONG)
        self._new = self._looks = 0

    def note(self, seen: Seen) -> None:
        """A request had its answer, or failed."""
        for window in self._windows:
            window.note(seen)
        self._new += seen.canary

    def compare(self, *, same: bool) -> None:
        """An image was answered by both; `same`: with the same class."""
        self._compared.append(same)

    def reason(self) -> str | None:
        """Which limit is broken, in words; None where none is, or it is not time to look."""
        long = self._windows[-1]
        if long.canary.total < self._limits.requests or self._new < BETWEEN:
            return None
        self._new = 0
        self._looks += 1
        level = max(self._limits.chance / _QUESTIONS * 6 / (math.pi * self._looks) ** 2, _SMALLEST)
        for window in self._windows:
            found = self._failing(window, level) or self._doubtful(window, level)
            if found:
                return found
        return self._contradicting(level) or self._slow(long, level)

    def _failing(self, seen: _Window, level: float) -> str | None:
        own, other = ((arm.failed, arm.total) for arm in (seen.canary, seen.live))
        if not exceeds(own, other, self._limits.errors, level):
            return None
        return f"it failed {_told(own)} requests, the live one {_told(other)}"

    def _doubtful(self, seen: _Window, level: float) -> str | None:
        own, other = ((arm.abstained, len(arm.times)) for arm in (seen.canary, seen.live))
        if not exceeds(own, other, self._limits.abstained, level):
            return None
        return f"it left {_told(own)} images to a person, the live one {_told(other)}"

    def _contradicting(self, level: float) -> str | None:
        last = list(self._compared)
        for part in (last[-SHORT:], last):
            own = (part.count(False), len(part))
            if own[1] >= self._limits.requests and exceeds(own, None, self._limits.disagreed, level):
                return f"it named another class than the live one for {_told(own)} images"
        return None

    def _slow(self, seen: _Window, level: float) -> str | None:
        own, other = seen.canary.seconds, seen.live.seconds
        for name, tail in TAILS.items():
            if slower(own, other, self._limits.latency, level, tail=tail):
                mine, theirs = (1e3 * float(np.quantile(one, 1 - tail)) for one in (own, other))
                return f"its {name} is {mine:.0f} ms, that of the live one {theirs:.0f} ms"
        return None


Share = tuple[int, int]
"""(how many, of how many)."""


def exceeds(own: Share, other: Share | None, margin: float, level: float) -> bool:
    """Whether the first share is above the second (or 0) by more than `margin`: said with a chance of `level` at most
    where it is not. By exact bounds of both at half the level each, or of the one at the level."""
    if not own[1] or (other is not None and not other[1]):
        return False
    if other is None:
        return surely_above(own, margin, level)
    if not surely_above(own, other[0] / other[1] + margin, level / 2):  # so it cannot be above the bound either
        return False
    return surely_above(own, float(exact_upper(*other, 1 - level / 2)) + margin, level / 2)


def surely_above(own: Share, limit: float, level: float) -> bool:
    """Whether so many hits, or more, have a chance below `level` where the true share is `limit` or less."""
    count, total = own
    if limit >= 1.0 or count <= limit * total:
        return False
    return limit <= 0.0 or float(log_beta_cdf(*_arrays(limit, count, total - count + 1))[0]) < math.log(level)


def slower(own: Floats, other: Floats, ratio: float, level: float, *, tail: float) -> bool:
    """Whether the latency that a share of `tail` exceeds is above `ratio` times that of the others: said with a chance
    of `level` at most where it is not. For the 99th percentile, well over a thousand of the others are needed."""
    if not own.size or not other.size or not _is_tail(own, ratio * float(np.quantile(other, 1 - tail)), level, tail):
        return False
    limit = upper_bound(other, level / 2, tail=tail)
    return limit is not None and _is_tail(own, ratio * limit, level / 2, tail)


def upper_bound(values: Floats, level: float, *, tail: float) -> float | None:
    """A value that the quantile 1 - `tail` exceeds with a chance of `level` at most; None where they are too few.

    By order: so many of N values lie above the quantile as a binomial (N, `tail`) says.
    """
    above = np.arange(math.ceil(tail * values.size))
    chances = log_beta_cdf(*_arrays(1 - tail, values.size - above, above + 1))
    sure = np.flatnonzero(chances <= math.log(level))
    return None if not sure.size else float(np.sort(values)[::-1][sure[-1]])


def _is_tail(values: Floats, limit: float, level: float, tail: float) -> bool:
    """Whether surely more than a share of `tail` of the values lies above `limit`."""
    return surely_above((int((values > limit).sum()), values.size), tail, level)


def _arrays(*values: ArrayLike) -> tuple[Floats, Floats, Floats]:
    x, a, b = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, np.float64)) for value in values))
    return x, a, b


def _told(share: Share) -> str:
    return f"{share[0]:,} of {share[1]:,}"
