"""Lines of results to a stream that may be slow, full or gone, written by a thread that nobody waits for.

Of a live source the oldest lines are dropped for newer ones and counted; otherwise the line waits, see `is_full`. A
full disk costs lines, which are counted, until there is room again.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import deque
from pathlib import Path
from typing import Any

from sortal.core.errors import MachineError

MOST_LINES = 1000
_GONE = (errno.EPIPE, errno.EBADF)
_PAUSE_S = 0.5


class Outlet:
    """One descriptor that JSON lines are written to."""

    def __init__(self, descriptor: int, *, most: int = MOST_LINES, closes: bool = False):
        self.dropped, self.written = 0, 0
        self.is_broken = False
        """Whether nobody reads any more."""
        self.trouble = ""
        """Why the last line could not be written, as where the disk is full; empty where it could."""
        self._descriptor, self._most, self._closes = descriptor, most, closes
        self._is_inside = False
        self._lines: deque[bytes] = deque()
        self._change = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="sortal-outlet", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether as many lines wait as may; a batch more still fits without dropping any."""
        return len(self._lines) >= self._most // 2 and not self.is_broken

    def put(self, record: dict[str, Any]) -> None:
        """Write a record soon; never waits."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        with self._change:
            if len(self._lines) >= self._most:
                self._lines.popleft()
                self.dropped += 1
            self._lines.append(line)
            self._change.notify()

    def close(self, limit_s: float) -> bool:
        """Write what is left, for `limit_s` at most; whether that was all."""
        with self._change:
            self._ending = True
            self._change.notify()
        self._thread.join(limit_s)
        done = not self._thread.is_alive()
        if self._closes and done:
            os.close(self._descriptor)
            self._closes = False
        return done

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._lines and not self._ending:
                    self._change.wait()
                if not self._lines:
                    return
                line = self._lines.popleft()
            try:
                self._write(line)
            except OSError as error:
                if error.errno in _GONE:
                    self.is_broken = True
                    return
                self.dropped, self.trouble = self.dropped + 1, error.strerror or type(error).__name__
                with self._change:
                    self._change.wait_for(lambda: self._ending, _PAUSE_S)  # there may be room again
                    if self._ending:
                        self.dropped += len(self._lines)
                        return
                continue
            self.written, self.trouble = self.written + 1, ""

    def _write(self, line: bytes) -> None:
        """A whole line; what an earlier one left unfinished is ended first."""
        line = b"\n" + line if self._is_inside else line
        while line:
            line = line[os.write(self._descriptor, line) :]
            self._is_inside = bool(line)


def outlet_to(path: Path | None) -> Outlet:
    """An outlet to a file, appended to, or to standard output. Raises MachineError where the file cannot be written."""
    if path is None:
        return Outlet(1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Outlet(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644), closes=True)
    except OSError as error:
        raise MachineError(f"the results cannot be written: {error.strerror}", where=str(path)) from error
