"""What makes a request cheap changes no answer, and loses no request."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from servers import PATIENCE_S, Server, Start


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("sortal.serve.worker", ("polars", "asyncio", "torch", "matplotlib", "jinja2", "starlette")),
        ("sortal.serve.story", ("polars", "torch", "matplotlib", "jinja2", "onnxruntime", "openvino", "cv2")),
    ],
)
def test_a_process_of_a_server_loads_only_what_it_needs(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, json, {module}; print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert json.loads(found.stdout) == []


def test_more_images_than_a_network_takes_at_once_are_answered_in_order(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1", "batch=32", "images=32")
    order = ["red", "green", "blue", "green", "red"] * 5
    alone = {name: server.predict(colors[name])[1]["predictions"][0] for name in colors}
    edge = "edge"
    parts = [f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode() for _ in order]
    whole = b"".join(part + colors[name] + b"\r\n" for part, name in zip(parts, order, strict=True))

    status, told = server.predict(
        whole + f"--{edge}--\r\n".encode(), content_type=f"multipart/form-data; boundary={edge}"
    )

    assert status == 200
    for name, one in zip(order, told["predictions"], strict=True):
        assert one["label"] == alone[name]["label"] == name
        assert one["probability"] == pytest.approx(alone[name]["probability"], abs=1e-5)
    server.account()


def test_a_full_server_refuses_before_the_body_is_there(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], *TIGHT)
    with crowded(server, colors) as let_go, connected(server) as (connection, received):
        body = colors["blue"] + bytes(100_000)
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection.sendall(head + body[:10])
        status, headers = answer(received)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        connection.sendall(body[10:])

        let_go()
        connection.sendall(head + body)
        assert answer(received)[0] == 200  # what was left of the first body was not taken for a request
    server.account()


TIGHT = ("workers=1", "queue=1", "batch=1", "answer_s=60", "hang_s=60", "name=only")


@contextmanager
def crowded(server: Server, colors: dict[str, bytes]) -> Iterator[Callable[[], None]]:
    """Its only worker stands still with an image, and its queue holds another, until what is given is called."""
    [worker] = server.workers()
    asking = [threading.Thread(target=server.predict, args=(colors["red"],)) for _ in range(2)]

    def let_go() -> None:
        os.kill(worker, signal.SIGCONT)
        for one in asking:
            one.join(PATIENCE_S)

    os.kill(worker, signal.SIGSTOP)
    try:
        for one in asking:
            one.start()
            wait_for_queue(server, 0 if one is asking[0] else 1)
        yield let_go
    finally:
        let_go()


@contextmanager
def connected(server: Server) -> Iterator[tuple[socket.socket, BinaryIO]]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        yield connection, connection.makefile("rb")


def wait_for_queue(server: Server, length: int) -> None:
    """Until one image is with the worker and so many wait."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        numbers = server.numbers()
        if (numbers["sortal_requests_open"], numbers["sortal_queue_images"]) == (length + 1, length):
            return
        time.sleep(0.05)
    raise AssertionError(f"never {length} waiting")


def answer(received: BinaryIO) -> tuple[int, dict[str, str]]:
    """Status and headers of the next response; its body is read too."""
    status = received.readline()
    assert status, "the connection has ended"
    headers = dict(line.decode().lower().strip().split(": ", 1) for line in iter(received.readline, b"\r\n"))
    received.read(int(headers["content-length"]))
    return int(status[9:12]), headers


@pytest.fixture
def full(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> Iterator[Server]:
    server = start(bundles[0], *TIGHT)
    with crowded(server, colors):
        yield server


@pytest.mark.parametrize(
    "more", [{}, {"Origin": "http://localhost"}, {"Connection": "close"}, {"Expect": "100-continue"}]
)
def test_every_refusal_of_a_full_server_is_the_same(
    full: Server, colors: dict[str, bytes], more: dict[str, str]
) -> None:
    host = {"Host": "localhost"} if "Origin" in more else {}
    before = full.numbers()
    for path in ("/predict", "/predict?top=3", "/predict?model=only", "/models/only/predict"):
        own = {"X-Request-ID": "mine", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        status, headers, text = full.ask("POST", path, colors["blue"], own | host | more)
        told = json.loads(text)
        assert (status, told["request_id"], headers["x-request-id"]) == (503, "mine", "mine")
        assert told["error"] == "too many images are waiting"
        assert told["received"] == "1 waiting"
        assert 1 <= int(headers["retry-after"]) <= 600
        assert headers["content-type"] == "application/json"
        assert "total;dur=" in headers["server-timing"]
        line = [one for one in full.events() if one["event"] == "predict"][-1]
        assert (line["outcome"], line["status"], line["trace_id"]) == ("rejected", 503, "ab" * 16)
    after = full.numbers()
    name = 'sortal_requests_total{outcome="rejected",way="http"}'
    assert after[name] - before.get(name, 0) == 4
    assert after["sortal_requests_received_total"] - before["sortal_requests_received_total"] == 4


def test_a_full_server_still_answers_all_that_are_no_requests_for_answers(
    full: Server, colors: dict[str, bytes]
) -> None:
    assert full.ask("POST", "/models/other/predict", colors["red"])[0] == 404
    assert full.ask("GET", "/predict")[0] == 405
    assert full.ask("GET", "/livez")[0] == 200
    assert full.ask("POST", "/predict", colors["red"], {"Origin": "http://evil.example", "Host": "localhost"})[0] == 403


def test_refusals_come_in_order_on_one_connection(full: Server, colors: dict[str, bytes]) -> None:
    body = colors["blue"] + bytes(100_000)
    ask = f"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-ID: %d\r\nContent-Length: {len(body)}\r\n\r\n"
    other = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(full) as (connection, received):
        connection.sendall(
            b"".join((ask % 1).encode() + body + other.encode() + (ask % 2).encode() + body for _ in "ab")
        )
        found = [answer(received) for _ in range(6)]
    assert [status for status, _ in found] == [503, 200, 503] * 2
    assert [headers.get("x-request-id") for _, headers in found] == ["1", None, "2"] * 2


def test_a_body_that_was_refused_and_does_not_come_ends_its_connection(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], *TIGHT, "body_s=1")
    with crowded(server, colors), connected(server) as (connection, received):
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nbegun")
        assert answer(received)[0] == 503
        assert received.read() == b""
