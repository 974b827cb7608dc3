"""Lines of results to a stream that may be slow, full or gone, written by a thread that nobody waits for.

Of a live source the oldest lines are dropped for newer ones and counted; otherwise the line waits, see `is_full`. A
full disk costs lines, which are counted, until there is room again.
"""

from __future__ import annotations

import errno
import json
import os
import select
import threading
from pathlib import Path
from typing import Any

from sortal.core.errors import MachineError
from sortal.stream.waiting import Waiting

MOST_LINES = 1000
_GONE = (errno.EPIPE, errno.EBADF)
_PAUSE_S = 0.5
CLEAR = "\r\x1b[K"
"""Empties the line of a terminal that the cursor stands in."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
"""A pipe with a name that nobody reads yet is refused and not waited for."""


class Outlet:
    """One descriptor that JSON lines are written to. `is_inside` tells that it ends in the middle of a line."""

    def __init__(self, descriptor: int, *, most: int = MOST_LINES, closes: bool = False, is_inside: bool = False):
        self.written = 0
        self.is_broken = False
        """Whether nobody reads any more."""
        self.trouble = ""
        """Why the last line could not be written, as where the disk is full; empty where it could."""
        self._descriptor, self._most, self._closes = descriptor, most, closes
        self._is_inside = is_inside
        self._before = CLEAR if os.isatty(descriptor) else ""
        self._refused = 0
        self._lines: Waiting[bytes] = Waiting(most)
        self._thread = threading.Thread(target=self._run, name="sortal-outlet", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._lines.dropped + self._refused

    @property
    def is_full(self) -> bool:
        """Whether as many lines wait as may; a batch more still fits without dropping any."""
        return len(self._lines) >= self._most // 2 and not self.is_broken

    def put(self, record: dict[str, Any]) -> None:
        """Write a record soon; never waits."""
        self.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def write(self, line: str) -> None:
        """Write a text as it is soon, on a terminal over what stands in the line; never waits."""
        self._lines.put((self._before + line).encode("utf-8", "backslashreplace"))

    def close(self, limit_s: float) -> bool:
        """Write what is left, for `limit_s` at most; whether that was all."""
        self._lines.end()
        self._thread.join(limit_s)
        done = not self._thread.is_alive()
        if self._closes and done:
            os.close(self._descriptor)
            self._closes = False
        return done

    def _run(self) -> None:
        while (line := self._lines.take()) is not None:
            try:
                self._write(line)
            except OSError as error:
                if error.errno in _GONE:
                    self.is_broken = True
                    return
                self._refused, self.trouble = self._refused + 1, error.strerror or type(error).__name__
                if self._lines.rest(_PAUSE_S):  # there may be room again
                    self._lines.clear()
            else:
                self.written, self.trouble = self.written + 1, ""

    def _write(self, line: bytes) -> None:
        """A whole line; what an earlier one left unfinished is ended first."""
        line = b"\n" + line if self._is_inside else line
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:  # a descriptor that others share may be one that never waits
                select.select((), (self._descriptor,), (), _PAUSE_S)
                continue
            self._is_inside = bool(line)


def outlet_to(path: Path | None) -> Outlet:
    """An outlet to a file, appended to, or to standard output. Raises MachineError where the file cannot be written."""
    if path is None:
        return Outlet(1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Outlet(os.open(path, _FLAGS, 0o644), closes=True, is_inside=_is_cut(path))
    except OSError as error:
        raise MachineError(f"the results cannot be written: {error.strerror}", where=str(path)) from error


def _is_cut(path: Path) -> bool:
    """Whether a file ends in the middle of a line: who wrote it was killed, or its disk was full."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
