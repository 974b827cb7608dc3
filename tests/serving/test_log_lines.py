"""What becomes of the log: not filled by what is rejected, nothing waits for its reader."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from servers import PATIENCE_S, Start
from sortal.serve import lines
from sortal.serve.lines import Outlet, Sparing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"s": 100.0}
    monkeypatch.setattr(lines, "monotonic", lambda: now["s"])
    return now


def test_so_many_a_second_pass_and_the_next_one_says_how_many_did_not(clock: dict[str, float]) -> None:
    passed: list[dict[str, Any]] = []
    log = Sparing(passed.append, 3)
    for number in range(8):
        log({"number": number})
        clock["s"] += 0.1
    clock["s"] = 101.5
    log({"number": 8})
    log({"number": 9})

    assert passed == [{"number": 0}, {"number": 1}, {"number": 2}, {"number": 8, "left_out": 5}, {"number": 9}]


def test_a_log_that_nobody_reads_holds_up_nobody_and_says_later_what_was_left_out() -> None:
    reading, writing = os.pipe()
    outlet = Outlet(writing)
    for number in range(3000):  # a pipe holds 64 kB
        outlet.write({"number": number, "text": "x" * 50})
    received = b""
    while select.select([reading], [], [], 0)[0]:
        received += os.read(reading, 1 << 20)
    outlet.write({"number": "next"})
    received += os.read(reading, 1 << 20)
    os.close(reading)
    outlet.write({"number": "nobody is there"})
    os.close(writing)

    found = [json.loads(line) for line in received.splitlines()]
    passed = [one["number"] for one in found if isinstance(one.get("number"), int)]
    assert passed == list(range(len(passed)))
    assert 300 < len(passed) < 3000
    assert found[-2]["event"] == "log full"
    assert found[-2]["lines"] == 3000 - len(passed)
    assert found[-1]["number"] == "next"


def test_a_long_line_is_whole() -> None:
    reading, writing = os.pipe()
    Outlet(writing).write({"text": "x" * 20_000})
    assert len(json.loads(os.read(reading, 1 << 20))["text"]) == 20_000
    os.close(reading)
    os.close(writing)


def test_a_server_answers_while_nobody_reads_its_log(bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    command = [sys.executable, "-m", "sortal", "serve", str(bundles[0]), "port=0", "workers=1", "grpc_port=null"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            address = next(one["url"] for one in map(json.loads, process.stderr) if one["event"] == "listening")
            next(one for one in map(json.loads, process.stderr) if one["event"] == "ready")
            for _ in range(600):
                request = urllib.request.Request(f"{address}/predict", colors["red"])
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                    assert response.status == 200
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()


def test_a_whole_group_that_is_told_to_end_loses_no_answer(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1")
    [worker] = server.workers()
    os.kill(worker, signal.SIGTERM)
    for _ in range(5):
        assert server.predict(colors["red"])[0] == 200
    assert server.workers() == [worker]
    assert server.numbers()["sortal_worker_deaths_total"] == 0
