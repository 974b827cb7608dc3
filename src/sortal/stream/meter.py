"""How fast and how old: counted over the newest frames, in a bounded memory."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sortal.stream.frame import DROPPED, REJECTED, Counts, Frame

NEWEST = 2000
_RATE_S, _SOONEST_S = 5.0, 0.5
_TO_MB = 1e-6 if sys.platform == "darwin" else 1e-6 * 1024


class Meter:
    """Ages of the newest frames that were answered or rejected in time, and how many a second."""

    def __init__(self) -> None:
        self.frames = 0
        """Decided, without those that were dropped."""
        self._ages: deque[float] = deque(maxlen=NEWEST)
        self._times: deque[float] = deque(maxlen=NEWEST)
        self._first_s: float | None = None
        self._begun_s, self._last_s = math.inf, -math.inf
        """When the earliest was taken and the last decided; unreadable ones do not wait for those that came earlier."""

    def see(self, frame: Frame) -> None:
        """A frame was decided."""
        if frame.reason == DROPPED:
            return
        self.frames += 1
        self._first_s = frame.done_s if self._first_s is None else self._first_s
        self._begun_s, self._last_s = min(self._begun_s, frame.taken_s), max(self._last_s, frame.done_s)
        self._times.append(frame.done_s)
        self._ages.append(frame.age_ms)

    @property
    def rate(self) -> float:
        """Decisions a second, over the last seconds."""
        now_s = time.monotonic()
        if self._first_s is None or now_s - self._first_s <= _SOONEST_S:
            return 0.0
        newest = sum(now_s - at_s <= _RATE_S for at_s in self._times)
        remembered_s = now_s - self._times[0]  # at a high rate, less than the last seconds
        return newest / max(min(_RATE_S, remembered_s), 1e-9)

    @property
    def mean_rate(self) -> float:
        """Decisions a second, from when the first frame was taken to the last decision; 0 where no time passed."""
        passed_s = self._last_s - self._begun_s
        return self.frames / passed_s if passed_s > 0 else 0.0

    def age_ms(self, share: float) -> float:
        """A quantile of the ages in milliseconds; 0 where there is none."""
        return float(np.quantile(self._ages, share)) if self._ages else 0.0

    def line(self, counts: Counts, state: str) -> str:
        """One line for people."""
        dropped = counts.reasons.get(DROPPED, 0) + counts.missed
        rejected = counts.states[REJECTED] - counts.reasons.get(DROPPED, 0)
        return (
            f"{state}  {self.rate:5.1f} frames/s  age {self.age_ms(0.5):4.0f} ms, p99 {self.age_ms(0.99):4.0f} ms  "
            f"{self.frames:,} decided  {dropped:,} dropped  {rejected:,} rejected"
        )

    def numbers(self, counts: Counts) -> dict[str, Any]:
        """All of them, for the last event of the log."""
        return {
            "received": counts.received,
            **counts.states,
            "reasons": dict(counts.reasons),
            "missed": counts.missed,
            "frames_per_s": round(self.mean_rate, 2),
            "age_ms_p50": round(self.age_ms(0.5), 1),
            "age_ms_p99": round(self.age_ms(0.99), 1),
            "batches": counts.batches,
        }


def used() -> dict[str, float]:
    """Peak memory and CPU time of this process and of its children, which have to be gone to be counted."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "peak_mb": round(_peak_mb(own), 1),
        "peak_mb_largest_child": round(children.ru_maxrss * _TO_MB, 1),
        "cpu_s": round(own.ru_utime + own.ru_stime, 2),
        "cpu_s_children": round(children.ru_utime + children.ru_stime, 2),
    }


def _peak_mb(own: resource.struct_rusage) -> float:
    """As Linux tells of this program; `getrusage` there remembers the program that started it, too."""
    with suppress(OSError, StopIteration, ValueError):
        status = Path("/proc/self/status").read_text().splitlines()
        return float(next(line for line in status if line.startswith("VmHWM")).split()[1]) * _TO_MB
    return own.ru_maxrss * _TO_MB
