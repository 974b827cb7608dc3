"""When training stops before its last step: asked to by a signal, or because its time is used up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from sortal.train.schedule import Pace

MAX_EPOCHS = 300
"""However long the budget is."""


@dataclass(kw_only=True)
class StopFlag:
    """Set by the first Ctrl-C or SIGTERM; training looks at it between steps."""

    requested: bool = False


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Inside, the first SIGINT or SIGTERM only sets the flag; a second one acts as it did before.

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

    def request(_number: int, _frame: FrameType | None) -> None:
        flag.requested = True
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield flag
    finally:
        restore()


@dataclass(kw_only=True)
class Budget:
    """Fits the number of steps to the time that is left. Without a deadline it changes nothing."""

    deadline_s: float | None
    """On `clock`; training and its last validation end before it."""
    steps_per_epoch: int
    wanted: int | None
    """Steps asked for, which the budget can only reduce; None lets it choose."""
    clock: Callable[[], float]
    used_s: float = 0.0
    steps: int = 0
    eval_s: float = field(default=0.0)

    def add(self, step_s: float) -> None:
        """Count one step. The first is slower than all others and does not count."""
        self.steps += 1
        if self.steps > 1:
            self.used_s += step_s

    def refit(self, pace: Pace, step: int) -> Pace:
        """The pace from `step` on, after at least two steps were counted."""
        if self.deadline_s is None or self.steps < 2:
            return pace
        step_s = self.used_s / (self.steps - 1)
        each_s = step_s + self.eval_s / self.steps_per_epoch
        left_s = self.deadline_s - self.clock() - self.eval_s
        total = step + max(0, int(left_s / each_s)) if each_s > 0 else pace.total
        return pace.refit(step, max(1, min(total, self.wanted or MAX_EPOCHS * self.steps_per_epoch)))
