"""When training stops before its last step: asked to by a signal, or because its time is used up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from sortal.train.phases import Phase, cost_ahead
from sortal.train.schedule import Pace

MAX_EPOCHS = 300
"""However long the budget is."""


_SAME_S = 0.3
"""Signals that come together are one: torchrun passes on a Ctrl-C that the terminal has sent to everybody already."""


class Preempted(KeyboardInterrupt):
    """Training left at once, after a checkpoint, because the machine is wanted for something else (SIGTERM)."""


@dataclass(kw_only=True)
class StopFlag:
    """Set by the first Ctrl-C or SIGTERM; training looks at it between steps."""

    requested: bool = False
    urgent: bool = False
    """SIGTERM: only what has to be kept is written. After a Ctrl-C, the best state is published and evaluated."""


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Inside, the first SIGINT or SIGTERM only sets the flag; a second one, later, acts as it did before.

    Python delivers signals to the main thread alone, so elsewhere nothing is installed.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    first_s: list[float] = []

    def request(number: int, _frame: FrameType | None) -> None:
        first_s.append(time.monotonic())
        if first_s[-1] - first_s[0] > _SAME_S:
            restore()
            signal.raise_signal(number)
            return
        flag.urgent = flag.urgent or number == signal.SIGTERM
        flag.requested = True

    for number in before:
        signal.signal(number, request)
    try:
        yield flag
    finally:
        restore()


@dataclass(kw_only=True)
class Budget:
    """Fits the number of steps to the time that is left. Without a deadline it changes nothing.

    A step of a phase costs what its steps have cost so far; where there were none yet, it is estimated from the phases
    that ran, by the pixels of both.
    """

    deadline_s: float | None
    """On `clock`; training and its last validation end before it."""
    steps_per_epoch: int
    phases: tuple[Phase, ...]
    wanted: int | None
    """Steps asked for, which the budget can only reduce; None lets it choose."""
    clock: Callable[[], float]
    used_s: list[float] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    steps: int = 0
    eval_s: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.used_s = self.used_s or [0.0] * len(self.phases)
        self.counted = self.counted or [0] * len(self.phases)

    def add(self, step_s: float, phase: int) -> None:
        """Count one step. The first is slower than all others and does not count."""
        self.steps += 1
        if self.steps > 1:
            self.used_s[phase] += step_s
            self.counted[phase] += 1

    def refit(self, pace: Pace, step: int) -> Pace:
        """The pace from `step` on, after at least two steps were counted."""
        if self.deadline_s is None or self.steps < 2:
            return pace
        each_s = self._each_s(pace.at(step))
        left_s = self.deadline_s - self.clock() - self.eval_s
        total = step + max(0, int(left_s / each_s)) if each_s > 0 else pace.total
        return pace.refit(step, max(1, min(total, self.wanted or MAX_EPOCHS * self.steps_per_epoch)))

    def left_s(self, pace: Pace, step: int) -> float:
        """About how long the steps from `step` on will take, validations included."""
        return (pace.total - step) * self._each_s(pace.at(step)) if self.steps > 1 else 0.0

    def _each_s(self, progress: float) -> float:
        """Mean seconds of a step ahead, with its share of a validation."""
        return cost_ahead(self.phases, progress, self._costs_s()) + self.eval_s / self.steps_per_epoch

    def _costs_s(self) -> list[float]:
        unit_s = sum(self.used_s) / sum(n * phase.cost for n, phase in zip(self.counted, self.phases, strict=True))
        return [
            used / n if n else unit_s * phase.cost
            for used, n, phase in zip(self.used_s, self.counted, self.phases, strict=True)
        ]
