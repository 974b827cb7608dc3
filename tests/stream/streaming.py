"""A running `sortal stream`, as tests look at it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 90.0


@dataclass(kw_only=True)
class Streaming:
    """A running `sortal stream`, its results and its log."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def results(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = _lines(self.out)
        return [one for one in found if kind in (None, one["kind"])]

    def answers(self) -> list[dict[str, Any]]:
        return [one for one in self.results("frame") if one["state"] != "rejected"]

    def wait_for_answers(self, more: int) -> None:
        count = len(self.answers())
        self.wait_until(lambda: len(self.answers()) > count + more)

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        return [one for one in _lines(self.err) if event in (None, one["event"])]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        return self.wait_until(lambda: self.events(event)[count - 1 : count] or None)[0]

    def wait_until(self, found: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            value = found()
            if value:
                return value
            assert self.process.poll() is None, self.err.read_text()
            time.sleep(0.02)
        raise AssertionError(self.err.read_text() + self.out.read_text()[-2000:])

    def children(self, what: str = "sortal.") -> list[int]:
        """Process ids of children whose command line holds `what`."""
        return [pid for pid in _children(self.process.pid) if what in command_line(pid)]

    def end(self, number: int = signal.SIGTERM) -> dict[str, Any]:
        """Ask it to end; returns the last event."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.wait(60) == 0, self.err.read_text()
        return self.events("ended")[-1]


Start = Callable[..., Streaming]


def read_terminal(ours: int) -> bytes:
    """All that comes through our side of a terminal until the other one is gone."""
    said = b""
    with os.fdopen(ours, "rb", buffering=0) as file, suppress(OSError):
        while piece := file.read(65536):
            said += piece
    return said


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
