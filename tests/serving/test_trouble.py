"""A server whose workers die or hang, that is asked too much, whose clients are slow, and that is told to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from servers import Server, Start
from sortal.core.bundle import open_bundle
from sortal.workspace.deployment import deployment, promote
from sortal.workspace.folder import create_workspace


class Load:
    """Threads that ask again and again until they are stopped, and what came of it."""

    def __init__(self, server: Server, body: bytes, threads: int = 4):
        self.statuses: list[int] = []
        self.bundles: list[str] = []
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(server, body)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _ask(self, server: Server, body: bytes) -> None:
        while not self._stop.is_set():
            try:
                status, answer = server.predict(body)
            except OSError:
                self.refused += 1
                return
            self.statuses.append(status)
            self.bundles.append(answer.get("bundle_id", ""))

    def wait(self, count: int) -> None:
        """Until so many more were answered."""
        target, end = len(self.statuses) + count, time.monotonic() + 60
        while len(self.statuses) < target and time.monotonic() < end:
            time.sleep(0.02)
        assert len(self.statuses) >= target

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def test_workers_that_are_killed_lose_no_request(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=2")
    server.wait_for_workers(2)
    load = Load(server, colors["red"])
    for deaths in (1, 2, 3):
        load.wait(10)
        os.kill(server.workers()[0], signal.SIGKILL)
        load.wait(10)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            numbers = server.numbers()
            if (numbers["sortal_worker_deaths_total"], numbers["sortal_workers_ready"]) == (deaths, 2):
                break
            time.sleep(0.05)
    load.stop()
    assert set(load.statuses) == {200}
    assert server.numbers()["sortal_worker_deaths_total"] == 3
    assert json.loads(server.ask("GET", "/health")[2])["workers"] == 2
    server.account()


def test_a_worker_that_hangs_is_replaced(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1", "hang_s=3", "answer_s=60")
    os.kill(server.workers()[0], signal.SIGSTOP)
    status, answer = server.predict(colors["blue"])
    assert (status, answer["predictions"][0]["label"]) == (200, "blue")
    assert server.numbers()["sortal_worker_deaths_total"] == 1


def test_an_image_is_answered_in_time_or_told_that_it_was_not(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1", "hang_s=60", "answer_s=2")
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    status, answer = server.predict(colors["blue"])
    os.kill(worker, signal.SIGCONT)
    assert status == 504
    assert "not answered within 2 s" in answer["error"]
    assert server.predict(colors["blue"])[0] == 200
    server.account()


def test_what_the_queue_does_not_hold_is_refused_at_once(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1", "queue=4", "batch=1", "hang_s=60", "answer_s=60")
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    found: list[tuple[int, dict[str, str]]] = []

    def ask() -> None:
        status, headers, _ = server.ask("POST", "/predict", colors["red"])
        found.append((status, headers))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while len(found) < 7 and time.monotonic() < end:
        time.sleep(0.02)
    refused = list(found)
    assert len(refused) in (7, 8)  # one is asked, four wait; where all came at one moment, none was asked yet
    assert {status for status, _ in refused} == {503}
    assert all(int(headers["retry-after"]) >= 1 for _, headers in refused)
    assert server.ask("GET", "/livez")[0] == 200
    os.kill(worker, signal.SIGCONT)
    for thread in threads:
        thread.join(60)
    taken = [status for status, _ in found].count(200)
    assert taken in (4, 5)
    assert sorted(status for status, _ in found) == [200] * taken + [503] * (12 - taken)
    server.account()


def test_slow_clients_are_sent_away(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1", "header_s=1", "body_s=1")
    slow = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\n")
    assert slow.recv(10_000).startswith(b"HTTP/1.1 408")
    assert slow.recv(1) == b""
    slow.close()
    slow = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome")
    answer = b""
    while part := slow.recv(10_000):
        answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body was not there within 1 s" in answer
    slow.close()
    assert server.predict(colors["red"])[0] == 200
    server.account()


def test_the_end_loses_no_request(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1")
    load = Load(server, colors["red"], threads=6)
    load.wait(20)
    assert server.end() == 0
    load.stop()
    assert set(load.statuses) <= {200, 503}
    assert load.statuses.count(200) >= 20
    assert load.refused + load.statuses.count(503) >= 1
    assert server.workers() == []
    received = [event for event in server.events() if event["event"] == "predict"]
    assert len(received) == len(load.statuses)


def test_another_classifier_becomes_live_without_a_failed_request(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    one, two = (open_bundle(path) for path in bundles)
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, one)
        server = start(workspace.path, "workers=1")
        load = Load(server, colors["red"])
        load.wait(10)
        promote(workspace, two)
        server.wait_for("exchanged")
        load.wait(10)
        promote(workspace, one)
        server.wait_for("exchanged", 2)
        load.wait(10)
        load.stop()
        assert deployment(workspace).generation == 3
    assert set(load.statuses) == {200}
    assert set(load.bundles) == {one.id, two.id}
    assert load.bundles[-1] == one.id
    server.account()


def test_a_classifier_that_does_not_start_leaves_the_old_one(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    one, two = (open_bundle(path) for path in bundles)
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, one)
        server = start(workspace.path, "workers=1", "start_s=20")
        state = promote(workspace, two)
        (workspace.path / "bundles" / str(state.live) / "artifacts" / "onnx" / "model.onnx").write_bytes(b"damaged")
        told = server.wait_for("not exchanged")
        assert "altered" in told["reason"] or "model.onnx" in told["reason"]
        status, answer = server.predict(colors["red"])
    assert (status, answer["bundle_id"]) == (200, one.id)


def test_health_tells_the_truth_before_and_without_workers(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundles[0], copy)
    server = start(copy, "workers=1")
    (copy / "artifacts" / "onnx" / "model.onnx").write_bytes(b"damaged")
    os.kill(server.workers()[0], signal.SIGKILL)
    end = time.monotonic() + 60
    while "reason" not in json.loads(server.ask("GET", "/readyz")[2]) and time.monotonic() < end:
        time.sleep(0.05)
    status, _, body = server.ask("GET", "/readyz")
    assert status == 503
    assert "model.onnx" in json.loads(body)["reason"]
    assert server.ask("GET", "/livez")[0] == 200


def test_what_cannot_be_served_is_refused_before_a_port_is_open(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with create_workspace(tmp_path / "empty"):
        pass
    cases = [
        ([str(bundles[0]), "host=0.0.0.0"], 2, "can be reached from other machines"),
        ([str(bundles[0]), f"port={port}"], 3, "the port cannot be opened"),
        ([str(tmp_path / "nothing")], 2, "no such model"),
        ([str(tmp_path / "empty")], 2, "nothing is live"),
        ([str(bundles[0]), "prot=1"], 2, "did you mean port"),
        ([str(bundles[0]), "batch=0"], 2, "batch"),
    ]
    for arguments, code, said in cases:
        done = subprocess.run([sys.executable, "-m", "sortal", "serve", *arguments], capture_output=True, timeout=120)
        assert done.returncode == code, done.stderr
        assert said in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    taken.close()
