"""What bodies, names and methods a server does not take, and how few file descriptors it goes on with."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from servers import Server
from sockets import CLOSE, PATIENCE_S, connected, head, read, said
from traversals import IN_ADDRESSES

MODEL = "/v2/models/one"


pytestmark = pytest.mark.usefixtures("unharmed")


def form(parts: int, size: int = 1) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"y" * size + b"\r\n"
    return part * parts + b"--x--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        form(15_000),
        b'--x\r\nContent-Disposition: form-data; name="' + b"a" * 500_000 + b'"\r\n\r\ny\r\n--x--\r\n',
        b"--x\r\n" + b"A: b\r\n" * 100_000 + b"\r\ny\r\n--x--\r\n",
        b"-" * 900_000,
        b"\r\n" * 400_000,
    ],
    ids=["parts", "name", "headers", "dashes", "lines"],
)
def test_forms_within_limits(tight: Server, body: bytes) -> None:
    status, told = tight.predict(body, content_type="multipart/form-data; boundary=x")
    assert status == 400
    assert told["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 250_000,
        b"[" * 250_000 + b"]" * 250_000,
        b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
        b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b"}",
        b'{"images": [' + b",".join([b'""'] * 200_000) + b"]}",
        b'{"image": ' + b"9" * 900_000 + b"}",
        b'{"image": NaN}',
        b'{"image": -Infinity}',
        b'{"image": "", "image": "x"}',
        b'{"image": "\xff\xfe"}',
        b'{"image": "\\ud800"}',
        b'{"image": {"a": 1}}',
        b'{"image": true}',
        b'"image"',
        b'{"image": "' + b" " * 900_000 + b'"}',
        b'{"image": "data:image/png;base64,%%%"}',
        b'{"image": "AAA"}',
        b"\x00",
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
@pytest.mark.parametrize("path", ["/predict", f"{MODEL}/infer"])
def test_json_within_limits(tight: Server, path: str, body: bytes) -> None:
    status, told = tight.predict(body, path, content_type="application/json")
    assert status == 400
    assert told["error"]
    assert len(json.dumps(told)) < 1000


def test_small_bodies_that_become_large(tight: Server) -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    before = tight.memory()
    for encoding, body in (("gzip", bomb), ("gzip, gzip", gzip.compress(bomb))):
        status, told = tight.predict(body, f"{MODEL}/infer", content_encoding=encoding)
        assert status in (400, 413)
        assert told["error"]
    assert tight.memory() - before < 20e6


@pytest.mark.parametrize("name", IN_ADDRESSES, ids=lambda name: name[:20])
def test_names_that_lead_elsewhere_lead_nowhere(tight: Server, name: str) -> None:
    for method, path in (
        ("GET", f"/v2/models/{name}"),
        ("GET", f"/v2/models/{name}/config"),
        ("GET", f"/v2/models/one/versions/{name}"),
        ("POST", f"/v2/models/{name}/infer"),
        ("POST", f"/predict?model={name}"),
        ("GET", f"/page/{name}"),
    ):
        found = said(tight, head(path, "Content-Length: 0", CLOSE, method=method))
        assert [status for status, _ in found] in ([400], [404], [405]), path
        assert found[0][1]["error"]


@pytest.mark.parametrize(
    "place", ["/livez", "/predict", "/health", MODEL, "/nothing", "*", "http://evil.example/livez"]
)
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods(tight: Server, method: str, place: str) -> None:
    with connected(tight) as connection:
        connection.sendall(head(place, "Content-Length: 0", CLOSE, method=method))
        answer = read(connection)
    status = int(answer.split(b" ", 2)[1])
    if method == "HEAD" and status == 200:
        assert answer.endswith(b"\r\n\r\n")
    else:
        assert status in (400, 404, 405)
        assert method == "HEAD" or json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_a_request_to_change_the_protocol_is_ignored(tight: Server) -> None:
    for protocol in ("websocket", "h2c"):
        lines = [
            "Connection: Upgrade, close",
            f"Upgrade: {protocol}",
            "Sec-WebSocket-Key: x",
            "Sec-WebSocket-Version: 13",
        ]
        assert said(tight, head("/livez", *lines, method="GET"))[0][0] == 200


def test_few_file_descriptors_are_enough_to_go_on(
    bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    """With 64 of them a crowd of connections is turned away, and a worker that dies meanwhile is replaced."""
    log = tmp_path / "log"
    settings = ["serve", str(bundles[0]), "port=0", "workers=1", "header_s=2"]
    command = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-m", "sortal", *settings]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file)
    server = Server(process=process, log=log)
    try:
        server.port = int(server.wait_for("listening")["url"].rpartition(":")[2])
        server.wait_for("ready")
        grpc_port = int(server.wait_for("listening")["grpc"].rpartition(":")[2])
        held = [connected(server) for _ in range(200)]
        held += [socket.create_connection(("127.0.0.1", grpc_port), timeout=PATIENCE_S) for _ in range(100)]
        os.kill(server.workers()[0], signal.SIGKILL)
        end = time.monotonic() + PATIENCE_S
        status = 0
        while status != 200 and time.monotonic() < end:
            with suppress(OSError, http.client.HTTPException):
                status = server.predict(colors["red"])[0]
            time.sleep(0.2)
        assert status == 200  # those that are held have said nothing in time
        for connection in held:
            connection.close()
        assert server.numbers()["sortal_workers_ready"] == 1
        server.account()
    finally:
        server.end()


def test_models_are_not_loaded_by_clients(tight: Server) -> None:
    for what in ("load", "unload"):
        status, _, body = tight.ask("POST", f"/v2/repository/models/one/{what}", b'{"parameters": {"config": "{}"}}')
        assert status == 501
        assert "not loaded" in json.loads(body)["error"]
