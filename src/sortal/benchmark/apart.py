"""One model measured in a process of its own: started, asked, stopped in time. What goes wrong there is an answer here.

`child` is the other side. Each question has its own time limit; a process that does not answer in time is stopped, and
one that crashes takes nothing with it.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

CHILD = ["-m", "sortal.benchmark.child"]
"""Arguments of Python for the measured side."""
_LAST_WORDS = 300


class FailedError(Exception):
    """The measured side cannot answer; the text says why."""


class Apart:
    """A child process that holds one opened model."""

    def __init__(self, *, limit_s: float):
        self._limit_s = limit_s
        self._process = subprocess.Popen(
            [sys.executable, *CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._said: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def ask(self, do: str, *, more_s: float = 0.0, **command: Any) -> dict[str, Any]:
        """The answer to one command, within the limit and `more_s`. Raises FailedError, after which nothing answers."""
        try:
            _open(self._process.stdin).write(json.dumps({"do": do, **command}) + "\n")
            _open(self._process.stdin).flush()
            line = self._said.get(timeout=self._limit_s + more_s)
        except queue.Empty:
            self.close()
            raise FailedError(f"did not answer within {self._limit_s + more_s:g} s and was stopped") from None
        except (OSError, ValueError):
            line = None
        if line is None:
            raise FailedError(self._crash())
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise FailedError(str(said["error"]) + ("" if not said.get("hint") else f" ({said['hint']})"))
        return said

    def close(self) -> None:
        """Stop the process, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):  # what was not yet written has no reader any more
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._said.put(line)
        self._said.put(None)

    def _drain(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._errors = [*self._errors[-20:], line.rstrip()]

    def _crash(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"crashed: signal {-code}"
        words = [line for line in self._errors if line.strip()]
        return f"crashed: {words[-1][:_LAST_WORDS] if words else f'exit code {code}'}"


def _open(pipe: IO[str] | None) -> IO[str]:
    """The pipe that was asked for when the process began."""
    if pipe is None:
        raise ValueError("no pipe")
    return pipe
