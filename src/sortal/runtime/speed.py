"""How long calls take on this machine, several of them in turns: whatever else runs there then hits all alike.

`in_turns_ms` is the one stopwatch for comparisons; the least of several times is what the machine can do, because other
processes only ever add time, and the times of one turn are one observation for ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.runtime.classifier import Classifier

BATCHES = (1, 2, 4, 8, 16, 32, 64)
_TURNS = 25
_LIMIT_S = 12.0
"""No further turn begins after so long."""


def in_turns_ms(
    calls: Sequence[Callable[[], object]],
    *,
    turns: int,
    limit_s: float,
    least_turns: int = 1,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> NDArray[np.float64]:
    """(calls, turns) milliseconds of every call in every turn, by `clock` (`time.process_time` counts CPU time).

    No further turn begins after `limit_s` seconds of the wall, once there are `least_turns`. `warmup` calls are made
    before: the first one is slower than all others.
    """
    for call in calls:
        for _ in range(warmup):
            call()
    begun_s, times = time.perf_counter(), []
    for number in range(turns):
        if number >= least_turns and time.perf_counter() - begun_s > limit_s:
            break
        times.append([_once_ms(call, clock) for call in calls])
    return np.array(times, np.float64).reshape(-1, len(calls)).T


def batch_times_ms(classifier: Classifier, image: Pixels, batches: Sequence[int] = BATCHES) -> dict[int, float]:
    """Milliseconds that `classifier` takes to answer a batch of so many copies of `image` (height, width, channels)."""
    return compared_times_ms([(classifier, image)], batches)[0]


def compared_times_ms(
    classifiers: Sequence[tuple[Classifier, Pixels]], batches: Sequence[int]
) -> list[dict[int, float]]:
    """As `batch_times_ms` for each of some classifiers with an image of its size, all of them in every turn."""
    calls = [
        lambda classifier=classifier, images=[image] * batch: classifier.predict(images, batch=len(images))
        for classifier, image in classifiers
        for batch in batches
    ]
    least = in_turns_ms(calls, turns=_TURNS, limit_s=_LIMIT_S).min(axis=1).reshape(len(classifiers), len(batches))
    return [dict(zip(batches, own, strict=True)) for own in least.tolist()]


def _once_ms(call: Callable[[], object], clock: Callable[[], float]) -> float:
    started_s = clock()
    call()
    return 1000 * (clock() - started_s)
