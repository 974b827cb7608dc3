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
from pathlib import Path

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
    server = start(bundles[0], "workers=1", "queue=1", "batch=1", "answer_s=60", "hang_s=60")
    [worker] = server.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        asking = [threading.Thread(target=server.predict, args=(colors["red"],)) for _ in range(2)]
        for one in asking:
            one.start()
            wait_for_queue(server, 0 if one is asking[0] else 1)
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
            body = colors["blue"] + bytes(100_000)
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body[:10])
            status, headers = answer(connection)
            assert status == 503
            assert int(headers["retry-after"]) >= 1

            os.kill(worker, signal.SIGCONT)
            for one in asking:
                one.join(PATIENCE_S)
            connection.sendall(body[10:] + head + body)
            assert answer(connection)[0] == 200  # what was left of the first body was not taken for a request
    finally:
        os.kill(worker, signal.SIGCONT)
    server.account()


def wait_for_queue(server: Server, length: int) -> None:
    """Until one image is with the worker and so many wait."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        numbers = server.numbers()
        if (numbers["sortal_requests_open"], numbers["sortal_queue_images"]) == (length + 1, length):
            return
        time.sleep(0.05)
    raise AssertionError(f"never {length} waiting")


def answer(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """Status and headers of the next response; its body is read too."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, rest = received.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    while len(rest) < int(headers["content-length"]):
        rest += connection.recv(65536)
    return int(head[9:12]), headers
