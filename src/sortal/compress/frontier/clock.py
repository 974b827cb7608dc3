"""How long a candidate will take, from those that were made already, and whether that still fits into the time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sortal.compress.frontier.wish import Wish

MARGIN = 1.25
"""A step that may take so many times its estimate still has to fit."""
UNKNOWN = {"size": 1.0, "int8": 2.0, "cut": 8.0}
"""A kind of step that was not seen yet, as a multiple of one of the others: cutting trains, the others only answer."""
_FIXED = 0.3
"""Share of a step that does not depend on the number of pixels (export, the head, reading files)."""


@dataclass(kw_only=True)
class Clock:
    """A budget in seconds (None: no limit) that began at `started_s` on `time.monotonic`, and what was learned."""

    budget_s: float | None
    started_s: float = field(default_factory=time.monotonic)
    _seen: list[tuple[Wish, float]] = field(default_factory=list)

    def left_s(self) -> float | None:
        """None without a limit."""
        return None if self.budget_s is None else self.budget_s - (time.monotonic() - self.started_s)

    def learn(self, wish: Wish, seconds: float) -> None:
        """A step was finished, now or by an earlier command."""
        self._seen.append((wish, seconds))

    def estimate_s(self, wish: Wish) -> float | None:
        """From the step of the same kind that is nearest in size, else of another kind; None where nothing is known."""
        same = [one for one in self._seen if one[0].kind == wish.kind]
        for known in (same, self._seen):
            if known:
                seen, seconds = min(known, key=lambda one: (abs(one[0].side - wish.side), abs(one[0].cut - wish.cut)))
                pixels = (wish.side / seen.side) ** 2
                return seconds * (_FIXED + (1 - _FIXED) * pixels) * UNKNOWN[wish.kind] / UNKNOWN[seen.kind]
        return None

    def forbids(self, wish: Wish) -> str:
        """Why a step is not begun; empty where it is. The first step is always begun."""
        left, estimate = self.left_s(), self.estimate_s(wish)
        if left is None or estimate is None:
            return ""
        if MARGIN * estimate <= left:
            return ""
        return f"would take about {_told(estimate)}, and {_told(max(left, 0.0))} were left"


def _told(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
