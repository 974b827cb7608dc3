"""The learning rate as a pure function of how far training is: a linear warm-up, then half a cosine.

Cosine annealing as in Loshchilov and Hutter 2017, "SGDR". A time budget can change how many steps there will be, so
`Pace` maps steps to progress; the rate is a function of progress and never rises after the warm-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOOR = 1e-3
"""The last rate as a share of the base rate: from 1e-3 down to 1e-6."""

_START = 0.01
"""The first rate of a warm-up as a share of the base rate."""


def rate_at(progress: float, *, base: float, warmup: float, floor: float = FLOOR) -> float:
    """The rate at `progress` in [0, 1] of all steps; `warmup` is the share of steps in which it rises linearly.

    Starts at `base` (without warm-up) and ends at `base * floor`.
    """
    if progress < warmup:
        return base * (_START + (1.0 - _START) * progress / warmup)
    done = 1.0 if warmup >= 1.0 else min(1.0, (progress - warmup) / (1.0 - warmup))
    return base * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done)))


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How steps become progress: straight from (`step`, `progress`) to (`total`, 1)."""

    total: int
    """Steps that there will be."""
    step: int = 0
    progress: float = 0.0

    def at(self, step: int) -> float:
        """Progress at the beginning of `step` (the first is 0)."""
        ahead = self.total - self.step
        return 1.0 if ahead <= 0 else min(1.0, self.progress + (1.0 - self.progress) * (step - self.step) / ahead)

    def refit(self, step: int, total: int) -> Pace:
        """From `step` on there will be `total` steps in all. Progress has no jump, so neither has the rate."""
        return Pace(total=max(total, step), step=step, progress=self.at(step))
