"""The log: one event is one line of JSON on stderr, whatever is in it, and no line has a key in it.

A log that cannot be written, because its disk is full or its reader is gone, costs lines and no request.
"""

from __future__ import annotations

import json
import logging
import os
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


def log(event: dict[str, Any]) -> None:
    """Write one event."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = masked(json.dumps({"time": time, **event}, ensure_ascii=True))
    with suppress(OSError):
        os.write(_STDERR, line.encode() + b"\n")  # in one piece, and nothing is left in a buffer to fail at the end


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
