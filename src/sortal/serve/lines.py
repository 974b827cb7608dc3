"""The log: one event is one line of JSON on stderr, whatever is in it, and no line has a key in it.

A log that cannot be written, because its disk is full, its reader is gone or does not read, costs lines and no request.
"""

from __future__ import annotations

import json
import logging
import os
import select
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import Any

from sortal.serve.guard.keys import masked

_STDERR = 2
_DEEPEST = 12
"""Innermost calls that are told of an exception."""
_LONGEST = 500
_PATIENCE_S = 0.02
"""How long a reader that is behind is waited for; not again before it has read."""


def log(event: dict[str, Any]) -> None:
    """Write one event; where nobody reads, it is left out, and an event says later how many were."""
    _OUTLET.write(event)


class Outlet:
    """Standard error, or another descriptor, that nobody waits for."""

    def __init__(self, descriptor: int):
        self._descriptor, self._lost = descriptor, 0

    def write(self, event: dict[str, Any]) -> None:
        """One line, in one piece where it has no more than 4 kB; nothing is left in a buffer to fail at the end."""
        with suppress(OSError):
            if not self._is_read(0.0 if self._lost else _PATIENCE_S):
                self._lost += 1
                return
            lost, self._lost = self._lost, 0
            text = _line(event) if not lost else _line({"event": "log full", "lines": lost}) + _line(event)
            for start in range(0, len(text), select.PIPE_BUF):
                if start and not self._is_read(_PATIENCE_S):
                    return
                os.write(self._descriptor, text[start : start + select.PIPE_BUF])

    def _is_read(self, within_s: float) -> bool:
        """Whether a write of `PIPE_BUF` bytes would not wait."""
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        return bool(waiting.poll(1e3 * within_s))


_OUTLET = Outlet(_STDERR)


def _line(event: dict[str, Any]) -> bytes:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return masked(json.dumps({"time": time, **event}, ensure_ascii=True)).encode() + b"\n"


class Sparing:
    """Passes on so many events a second; the next one after that says how many were `left_out`."""

    def __init__(self, log: Callable[[dict[str, Any]], None], most: int):
        self._log, self._most = log, most
        self._second, self._passed, self._left_out = -1, 0, 0

    def __call__(self, event: dict[str, Any]) -> None:
        """One event."""
        second = int(monotonic())
        if second != self._second:
            self._second, self._passed = second, 0
        if self._passed >= self._most:
            self._left_out += 1
            return
        self._passed += 1
        self._log(event | ({"left_out": self._left_out} if self._left_out else {}))
        self._left_out = 0


class Lines(logging.Handler):
    """What libraries have to say, as lines of the same kind: warnings and errors.

    Of an exception its kind and the places that it came through: its text may hold what a client sent.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Pass it on."""
        if record.levelno < logging.WARNING:
            return
        error = record.exc_info[1] if record.exc_info else None
        message = record.getMessage() if error is None else str(record.msg).strip()
        raised = {} if error is None else {"error": type(error).__name__, "at": _places(error)}
        log({"event": "server", "level": record.levelname.lower(), "message": message, **raised})


def log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends a process, for `sys.excepthook`: one line too."""
    told = {"error": kind.__name__, "message": str(error)[:_LONGEST], "at": _places(error.with_traceback(trace))}
    log({"event": "crashed", "process": os.getpid(), **told})


def _places(error: BaseException) -> list[str]:
    """`file.py:12 function`, the innermost last."""
    found, trace = list[str](), error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return found[-_DEEPEST:]
