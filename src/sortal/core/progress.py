"""How long work tells a person where it stands, without knowing whether that is a terminal, a log or a page."""

from __future__ import annotations

import time
from typing import Protocol, TextIO


class Listener(Protocol):
    """Receives sentences and progress. Implementations must be cheap: they are called for every image."""

    def say(self, text: str) -> None:
        """A line for people."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` units of a stage are finished."""


class Silent:
    """A listener that tells nobody: the default of the Python API."""

    def say(self, text: str) -> None:
        """Nothing."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Nothing."""


class Plain:
    """Lines on a stream: sentences as they come, progress with an estimate at most every `every_s` seconds."""

    def __init__(self, stream: TextIO, *, every_s: float = 5.0):
        self._stream = stream
        self._every_s = every_s
        self._stage = ""
        self._started_s = 0.0
        self._shown_s = 0.0

    def say(self, text: str) -> None:
        """Print the line at once."""
        print(text, file=self._stream, flush=True)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Print `stage done/total, about N s left`, but not more often than every `every_s`."""
        now_s = time.monotonic()
        if stage != self._stage or done <= 1:
            self._stage, self._started_s, self._shown_s = stage, now_s, now_s
        if now_s - self._shown_s < self._every_s or done == 0:
            return
        self._shown_s = now_s
        left_s = (now_s - self._started_s) / done * (total - done)
        self.say(f"{stage}: {done:,} of {total:,}, about {duration(left_s)} left")


def duration(seconds: float) -> str:
    """Seconds for people: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
