"""gRPC when there is too much, when time runs out, when clients go away, and at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from rpc import CLASSIFIER, HEALTH, Rpc
from servers import Server, Start
from sortal.serve.grpc.messages import message_class

Connect = Callable[[Server], Rpc]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(server)`: a client that is ended after the test."""
    open_ones: list[Rpc] = []

    def connected(server: Server) -> Rpc:
        open_ones.append(Rpc(server.grpc))
        return open_ones[-1]

    yield connected
    for one in open_ones:
        one.close()


def request(image: bytes, name: str = "") -> Any:
    return message_class("sortal.v1.ClassifyRequest")(images=[image], request_id=name)


def statuses(messages: list[bytes]) -> list[int]:
    return [health_pb2.HealthCheckResponse.FromString(one).status for one in messages]


def outcomes(server: Server, count: int) -> dict[str, tuple[str, str]]:
    """(outcome, status) of requests by their id."""
    server.wait_for("predict", count)
    found = [one for one in server.events() if one["event"] == "predict"]
    return {one["request_id"]: (one["outcome"], one["status"]) for one in found}


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_is_too_much_is_refused_and_what_is_late_is_told(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], connect: Connect
) -> None:
    server = start(bundles[0], "workers=1", "queue=2", "batch=1", "hang_s=60", "answer_s=30", "body_s=1")
    rpc, named = connect(server), {"x-request-id": "named"}
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    calls = [rpc.begin(CLASSIFIER, "Classify", request(colors["red"])) for _ in range(6)]
    wait_until(lambda: sum(one.done() for one in calls) == 3)  # one is asked, two wait
    refused = [one.result() for one in calls if one.done()]
    assert {one.code for one in refused} == {"UNAVAILABLE"}
    assert all(int(one.trailing["grpc-retry-pushback-ms"]) >= 100 for one in refused)
    os.kill(worker, signal.SIGCONT)
    assert [one.result(60).code for one in calls].count("OK") == 3

    os.kill(worker, signal.SIGSTOP)
    late = rpc.ask(CLASSIFIER, "Classify", request(colors["red"], "late"), timeout=0.5)
    assert late.code == "DEADLINE_EXCEEDED"
    gone = rpc.ask(CLASSIFIER, "Classify", request(colors["red"], "gone"), cancel_s=0.5)
    assert gone.code == "CANCELLED"
    os.kill(worker, signal.SIGCONT)
    silent = rpc.ask(CLASSIFIER, "Classify", metadata=named, open_s=3)
    assert (silent.code, "not there within 1 s" in silent.details) == ("DEADLINE_EXCEEDED", True)
    nothing = rpc.ask(CLASSIFIER, "Classify", metadata={"x-request-id": "nothing"})
    assert (nothing.code, "there is no message" in nothing.details) == ("RESOURCE_EXHAUSTED", True)
    assert rpc.ask(CLASSIFIER, "Classify", request(colors["red"], "last")).code == "OK"
    found = outcomes(server, 11)
    assert found["late"] == ("expired", "DEADLINE_EXCEEDED")
    assert found["gone"] == ("cancelled", "CANCELLED")
    assert found["named"] == ("client_error", "DEADLINE_EXCEEDED")
    assert found["nothing"] == ("client_error", "RESOURCE_EXHAUSTED")
    server.account()


def test_workers_die_and_health_says_so(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], connect: Connect
) -> None:
    server = start(bundles[0], "workers=1")
    rpc = connect(server)
    watching = rpc.begin(HEALTH, "Watch", health_pb2.HealthCheckRequest(service="one"))
    for _ in range(2):
        assert rpc.ask(CLASSIFIER, "Classify", request(colors["blue"])).code == "OK"
        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda worker=worker: server.workers() not in ([], [worker]))
        server.wait_for_workers(1)
    time.sleep(0.5)  # the watcher looks four times a second
    assert server.end() == 0
    seen = statuses(watching.result(60).messages)
    assert seen[0] == 1
    assert seen.count(2) >= 2
    assert seen[-1] == 2
    lines = server.log.read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("{") for line in lines), lines


def test_the_end_answers_what_is_open(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], connect: Connect
) -> None:
    server = start(bundles[0], "workers=1", "hang_s=60", "answer_s=60")
    rpc = connect(server)
    watching = rpc.begin(HEALTH, "Watch", health_pb2.HealthCheckRequest())
    idle = rpc.begin("inference.GRPCInferenceService", "ModelStreamInfer", open_s=20)
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    calls = [rpc.begin(CLASSIFIER, "Classify", request(colors["green"], f"open-{number}")) for number in range(8)]
    wait_until(lambda: server.numbers()["sortal_requests_open"] == 8)
    server.process.send_signal(signal.SIGTERM)
    assert statuses(watching.result(60).messages) == [1, 2]
    assert (idle.result(60).code, idle.result().messages) == ("OK", [])
    assert rpc.ask(CLASSIFIER, "Classify", request(colors["green"])).code == "UNAVAILABLE"
    os.kill(worker, signal.SIGCONT)
    for call in calls:
        answer = call.result(60).message("sortal.v1.ClassifyResponse")
        assert answer.predictions[0].decision.label == "green"
    assert server.process.wait(60) == 0
    assert server.events()[-1]["event"] == "ended"


def test_who_is_told_twice_waits_for_nobody(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], connect: Connect
) -> None:
    server = start(bundles[0], "workers=1", "hang_s=300", "answer_s=300", "drain_s=300")
    rpc = connect(server)
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            server.predict(colors["red"])
        except (OSError, HTTPException) as error:
            failed.append(error)

    over_http = threading.Thread(target=ask)
    over_http.start()
    calls = [rpc.begin(CLASSIFIER, "Classify", request(colors["green"])) for _ in range(3)]
    wait_until(lambda: server.numbers()["sortal_requests_open"] == 4)
    watching = rpc.begin(HEALTH, "Watch", health_pb2.HealthCheckRequest())
    server.process.send_signal(signal.SIGTERM)
    assert watching.result(60).code == "OK"
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    over_http.join(60)
    assert len(failed) == 1
    assert {call.result(60).code for call in calls} <= {"UNAVAILABLE", "CANCELLED"}
    assert not Path(f"/proc/{worker}").exists()
    assert server.events()[-1]["event"] == "ended"


def test_ports_that_are_taken_and_no_port_at_all(start: Start, bundles: tuple[Path, Path]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "sortal", "serve", str(bundles[0]), "port=0", f"grpc_port={port}"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 3
    assert f"127.0.0.1:{port}: the port for gRPC cannot be opened" in ended.stderr
    assert "grpc_port=off" in ended.stderr
    server = start(bundles[0], "workers=1", "grpc_port=off")
    assert server.grpc == ""
    assert "cygrpc" not in Path(f"/proc/{server.process.pid}/maps").read_text()
