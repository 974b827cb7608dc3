"""A classifier of colors, and commands that stream with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from colors import color_bundle

PATIENCE_S = 90.0


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class is the color with the highest mean."""
    return color_bundle(tmp_path_factory.mktemp("stream") / "colors")


@dataclass(kw_only=True)
class Streaming:
    """A running `sortal stream`, its results and its log."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def results(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = _lines(self.out)
        return [one for one in found if kind in (None, one["kind"])]

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


@pytest.fixture
def stream(bundle: Path, tmp_path: Path) -> Iterator[Start]:
    """`stream("--source", "camera:0", ...)`: a command in a process of its own, killed after the test if need be."""
    started: list[Streaming] = []

    def start(*arguments: object, model: Path = bundle) -> Streaming:
        number = len(started)
        out, err = tmp_path / f"out-{number}", tmp_path / f"err-{number}"
        command = [sys.executable, "-m", "sortal", "stream", str(model), *map(str, arguments)]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdout=stdout, stderr=stderr, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        started.append(Streaming(process=process, out=out, err=err))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(30)


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
