"""Which of several networks is faster on this machine: run in turns on one thread, counted in CPU time.

In turns, because a machine is slower in one minute than in another; CPU time, because other processes take the clock
but not the work. The ratio of every turn is one observation, and the interval is that of their median.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Metric
from sortal.evaluate.latency import percentile_bounds
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.speed import in_turns_ms

Floats = NDArray[np.float64]

ROUNDS = 60
WARMUP = 5
_ENOUGH = 30
_LIMIT_S = 60.0
"""No further round begins after so long, once there are 30."""


def interleaved_ms(engines: Sequence[Engine], image: NDArray[np.float32], *, rounds: int = ROUNDS) -> Floats:
    """(engines, rounds) CPU milliseconds of one normalized image (1, C, H, W), all engines in every round."""
    calls = [partial(engine.run, image) for engine in engines]
    return in_turns_ms(
        calls, turns=rounds, least_turns=_ENOUGH, limit_s=_LIMIT_S, warmup=WARMUP, clock=time.process_time
    )


def time_ratio(before_ms: Floats, after_ms: Floats, *, confidence: float = 0.95) -> Metric:
    """Median of after / before over rounds (R,), with an interval by order statistics; below 1 is faster.

    An end is missing where there are too few rounds for it.
    """
    ratios = after_ms / np.maximum(before_ms, 1e-9)
    low, high = percentile_bounds(ratios, 0.5, 1 - (1 - confidence) / 2)
    return Metric(value=float(np.median(ratios)), low=low, high=high, n=len(ratios))


def is_faster(ratio: Metric) -> bool:
    """Whether the whole interval lies below 1."""
    return ratio.high is not None and ratio.high < 1.0
