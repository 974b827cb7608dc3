"""A wall clock that is set forwards and backwards while a server answers: nothing that waits, waits by it."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import sortal
from programs import need_library
from rpc import INFERENCE, Rpc, asked, pixels
from servers import PATIENCE_S, Server, Start
from sortal.core.bundle import open_bundle
from sortal.serve.guard.keys import add_key
from sortal.workspace.deployment import promote
from sortal.workspace.events import events_since
from sortal.workspace.folder import create_workspace

JUMPS = {"+1h": 1, "-1h": -1, "+10y": 87_600, "-10y": -87_600}
"""As libfaketime has them, and in hours."""

WALL = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now", "datetime.utcnow", "date.today"}
DATES = {
    "client/talk.py": "a server may name a date in Retry-After",
    "serve/guard/keys.py": "when a key was made and ends",
    "serve/guard/ring.py": "whether a key has ended",
    "serve/lines.py": "of a line of the log",
    "serve/oip/dialogue.py": "of the last answer, as the protocol tells it",
    "serve/recorder.py": "of an event",
    "serve/telemetry/tracing.py": "of spans",
    "stream/capture.py": "of a frame",
    "stream/results.py": "of a result",
    "stream/sources/folder.py": "of a file, beside how long it has not changed",
    "workspace/deployment.py": "of an entry of the journal",
    "workspace/events.py": "of events that are forgotten after days",
    "workspace/feedback.py": "of a statement",
    "workspace/images.py": "of an image that is kept for days",
}
"""Where the wall clock is read, for people or for what lasts days; whatever waits, counts on the monotonic one."""


class Clock:
    """The wall clock of the processes that are started within `preloaded`; the monotonic one goes on."""

    def __init__(self, file: Path):
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        """How far it is from ours, for every process, at once."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset + "\n", encoding="ascii")
        fresh.rename(self._file)

    def preloaded(self) -> dict[str, str]:
        library = need_library("faketime/libfaketimeMT.so.1", "libfaketime")
        switches = dict.fromkeys(("FAKETIME_DONT_FAKE_MONOTONIC", "FAKETIME_NO_CACHE", "NO_FAKE_STAT"), "1")
        return {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(self._file), **switches}


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock(tmp_path / "clock")
    for name, value in found.preloaded().items():
        monkeypatch.setenv(name, value)
    return found


class Load:
    """Clients that ask for answers in three ways, again and again."""

    def __init__(self, server: Server, rpc: Rpc, image: bytes):
        self.told: list[tuple[str, str]] = []
        self._server, self._rpc, self._image, self._ends = server, rpc, image, threading.Event()
        self.timings: list[str] = []
        ways = (self._file, self._file, self._tensor, self._call)
        self._threads = [threading.Thread(target=self._run, args=(way,)) for way in ways]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def wait(self, count: int) -> None:
        """Until so many more of each way have their answer."""
        before, end = len(self.told), time.monotonic() + PATIENCE_S
        while any(sum(way == one for one, _ in self.told[before:]) < count for way in ("file", "tensor", "call")):
            assert time.monotonic() < end, self.told[before:]
            time.sleep(0.02)

    def _run(self, ask: Callable[[], tuple[str, str]]) -> None:
        while not self._ends.is_set():
            self.told.append(ask())

    def _file(self) -> tuple[str, str]:
        status, headers, _ = self._server.ask("POST", "/predict", self._image)
        self.timings.append(headers["server-timing"])
        return "file", str(status)

    def _tensor(self) -> tuple[str, str]:
        images = pixels(2)
        item = {"name": "image", "datatype": "UINT8", "shape": images.shape, "data": images.reshape(-1).tolist()}
        body = {"inputs": [item], "parameters": {"timeout": 20_000_000}}
        return "tensor", str(self._server.ask("POST", "/v2/models/line4/infer", json.dumps(body).encode())[0])

    def _call(self) -> tuple[str, str]:
        message = asked(pixels(1), model_name="line4")
        how = {"timeout": 30.0, "metadata": {"x-api-key": self._server.key}}
        return "call", self._rpc.ask(INFERENCE, "ModelInfer", message, **how).code


def ahead_h(server: Server) -> float:
    """How many hours the clock of its log is ahead of ours."""
    return (datetime.fromisoformat(server.events()[-1]["time"]) - datetime.now(UTC)).total_seconds() / 3600


def test_a_clock_that_jumps_makes_nobody_late(
    start: Start,
    bundles: tuple[Path, Path],
    colors: dict[str, bytes],
    tmp_path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = (open_bundle(path) for path in bundles)
    keys = tmp_path / "keys.yaml"
    chief = add_key(keys, "chief", ("admin",))
    slow = add_key(keys, "slow", ("infer",), rate="1/h", burst=1)
    soon = add_key(keys, "soon", ("infer",), expires="1d")
    workspace = create_workspace(tmp_path / "line4")
    promote(workspace, one)
    server = start(workspace.path, "workers=2", "delay_ms=2", "hang_s=20", "answer_s=10", "--auth", str(keys))
    server.key = chief
    server.wait_for_workers(2)
    for name in ("LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE"):
        monkeypatch.delenv(name)
    rpc, workers = Rpc(server.grpc), set(server.workers())
    assert server.ask("POST", "/predict", colors["red"], {"X-API-Key": slow})[0] == 200
    with Load(server, rpc, colors["red"]) as load:
        load.wait(3)
        for number, (jump, hours) in enumerate(JUMPS.items()):
            clock.set(jump)
            load.wait(5)
            assert abs(ahead_h(server) - hours) < 0.2
            status, headers, _ = server.ask("POST", "/predict", colors["red"], {"X-API-Key": slow})
            assert (status, 0 < int(headers["retry-after"]) <= 3600) == (429, True)
            expired = server.ask("POST", "/predict", colors["red"], {"X-API-Key": soon})[0]
            assert expired == (401 if jump == "+10y" else 200)  # dates are what keys end by
            promote(workspace, one if number % 2 else two)
            server.wait_for("exchanged", number + 1)
            clock.set("+0")
            load.wait(5)
    rpc.close()
    assert {told for told in load.told if told[1] not in ("200", "OK")} == set()
    durations = [float(spent) for timing in load.timings for spent in re.findall(r"dur=([-\d.]+)", timing)]
    assert len(durations) > 100
    assert all(0 <= spent < 1e3 * PATIENCE_S for spent in durations)
    numbers = server.numbers()
    assert numbers["sortal_worker_deaths_total"] == 0
    assert all(0 <= value < 1e4 for name, value in numbers.items() if name.endswith("seconds_sum"))
    assert workers.isdisjoint(server.workers())  # exchanged, by none but us
    assert server.end() == 0
    assert all(0 < event.latency_ms < 1e3 * PATIENCE_S for event in events_since(workspace))
    lines = [event for event in server.events() if event["event"] == "predict"]
    assert {line["time"][:2] for line in lines} == {"20"}
    assert all(0 <= line["ms"] < 1e3 * PATIENCE_S for line in lines)
    workspace.close()


def test_a_full_server_names_a_time_that_is_near_whatever_the_clock_says(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], clock: Clock
) -> None:
    server = start(bundles[0], "workers=1", "queue=2", "batch=1", "hang_s=60", "answer_s=3")
    assert server.predict(colors["red"])[0] == 200
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        found: list[tuple[int, dict[str, str]]] = []
        for jump in JUMPS:
            clock.set(jump)
            begun_s = time.monotonic()
            threads = [threading.Thread(target=lambda: found.append(_asked(server, colors["red"]))) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.monotonic() - begun_s < PATIENCE_S
    finally:
        os.kill(worker, signal.SIGCONT)
    assert {status for status, _ in found} == {503, 504}
    refused = [int(headers["retry-after"]) for status, headers in found if status == 503]
    assert len(refused) >= 4
    assert all(1 <= seconds <= 60 for seconds in refused)
    assert server.predict(colors["red"])[0] == 200
    server.account()


def _asked(server: Server, image: bytes) -> tuple[int, dict[str, str]]:
    status, headers, _ = server.ask("POST", "/predict", image)
    return status, headers


def _wall_clocks(source: Path) -> list[int]:
    """Lines that read the wall clock, or take a function that does."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            found += [node.lineno] if f"{owner}.{node.attr}" in WALL else []
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [node.lineno for name in node.names if f"time.{name.name}" in WALL]
    return found


def test_the_wall_clock_is_read_for_dates_alone() -> None:
    root = Path(sortal.__file__).parent
    folders = ("client", "serve", "stream", "workspace")
    files = [file for folder in folders for file in sorted((root / folder).rglob("*.py"))]
    assert len(files) > 100
    assert {file.relative_to(root).as_posix() for file in files if _wall_clocks(file)} == set(DATES)


@pytest.mark.parametrize(
    "line", ["import time; end = time.time() + 1", "from time import time", "import datetime; datetime.datetime.now()"]
)
def test_a_wall_clock_is_found(tmp_path: Path, line: str) -> None:
    source = tmp_path / "source.py"
    source.write_text(line, encoding="utf-8")
    assert _wall_clocks(source)
