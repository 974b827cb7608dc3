"""What clients may not do to a server, over plain sockets: they are answered or ended, and the next one is served."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from servers import Server, start_server

PATIENCE_S = 60
MODEL = "/v2/models/one"


@pytest.fixture(scope="module")
def tight(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits two seconds for everything and takes 1 MB."""
    limits = ["workers=1", "body_mb=1", "header_s=2", "body_s=2", "send_s=2", "connections=40"]
    server = start_server(bundles[0], tmp_path_factory.mktemp("tight") / "log", *limits)
    try:
        server.wait_for("ready")
        yield server
    finally:
        server.end()


@pytest.fixture(autouse=True)
def alive(tight: Server, colors: dict[str, bytes]) -> Iterator[None]:
    """After each test a good request is answered, the account is even, no worker died."""
    yield
    status, answer = tight.predict(colors["green"])
    assert (status, answer["predictions"][0]["label"]) == (200, "green")
    assert tight.numbers()["sortal_workers_ready"] == 1
    tight.account()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)


def read(connection: socket.socket) -> bytes:
    """Until the server ends it."""
    found = b""
    try:
        while part := connection.recv(100_000):
            found += part
    except ConnectionError:
        pass
    return found


def said(server: Server, *parts: bytes) -> list[tuple[int, dict[str, object]]]:
    """(status, JSON) of each response to bytes sent as they are, until the server ends the connection."""
    with connected(server) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except ConnectionError:
            pass
        return responses(read(connection))


def responses(data: bytes) -> list[tuple[int, dict[str, object]]]:
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"content-length: (\d+)", head.lower())
        if status == 100:
            data = rest
            continue
        assert length is not None, data
        found.append((status, json.loads(rest[: int(length[1])])))
        data = rest[int(length[1]) :]
    return found


def one(server: Server, *parts: bytes) -> tuple[int, dict[str, object]]:
    [found] = said(server, *parts)
    return found


def head(path: str = "/predict", *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


CLOSE = "Connection: close"


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /livez HTTP/1.1\r\nA: " + b"x" * 1_000_000],
        [b"GET /livez HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n"],
        [b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 200_000 + b"\r\n"],
        [b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n"],
        [b"GET /livez HTTP/1.1\r\n" + b"A" * 1_000_000 + b": b\r\n\r\n"],
    ],
    ids=["endless value", "long value", "many", "address", "name"],
)
def test_headers_have_a_size(tight: Server, parts: list[bytes]) -> None:
    before = memory(tight)
    status, told = one(tight, *parts)
    assert (status, told) == (431, {"error": "the headers are too large"})
    assert memory(tight) - before < 20e6


def memory(server: Server) -> int:
    return psutil.Process(server.process.pid).memory_info().rss


def test_headers_that_fit_are_taken(tight: Server) -> None:
    [(status, _)] = said(tight, head("/livez", "A: " + "x" * 30_000, CLOSE, method="GET"))
    assert status == 200


def test_trailers_and_extensions_of_chunks_have_a_size(tight: Server) -> None:
    begin = head("/predict", "Transfer-Encoding: chunked")
    before = memory(tight)
    for parts in (
        [begin, b"1\r\na\r\n0\r\nA: " + b"x" * 3_000_000],
        [begin, b"1\r\na\r\n0\r\n" + b"A: b\r\n" * 500_000],
        [begin, b"1;" + b"x" * 3_000_000],
    ):
        assert said(tight, *parts)[-1][0] in (400, 431)
    assert memory(tight) - before < 20e6


@pytest.mark.parametrize("path", ["/predict", "/feedback", f"{MODEL}/infer", "/v2/repository/index"])
def test_bodies_without_end_are_ended(tight: Server, path: str) -> None:
    before = memory(tight)
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    found = said(tight, head(path, "Transfer-Encoding: chunked"), *[chunk] * 400)
    assert found[0][0] in (404, 413)
    assert memory(tight) - before < 20e6


def test_a_million_chunks_of_one_byte(tight: Server) -> None:
    before = memory(tight)
    begin = head("/predict", "Transfer-Encoding: chunked", CLOSE)
    status, _ = one(tight, begin, b"1\r\nx\r\n" * 1_000_000, b"0\r\n\r\n")
    assert status in (408, 422)
    assert memory(tight) - before < 20e6


def test_lengths_that_lie(tight: Server) -> None:
    status, told = one(tight, head("/predict", "Content-Length: 1000"), b"short")
    assert (status, told["error"]) == (408, "the body was not there within 2 s")
    status, told = one(tight, head("/predict", "Content-Length: 99999999999999"), b"short")
    assert status in (408, 413)
    with connected(tight) as connection:
        connection.sendall(head("/predict", "Content-Length: 1000") + b"short")
    for length in ("-1", "1e3", "0x10", "12 12", "99999999999999999999999999", "", "+5"):
        assert one(tight, head("/predict", f"Content-Length: {length}"), b"hello")[0] == 400, length


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: chunked\nX: y"],
        ["X: a\r\n folded"],
        ["X: a\x00b"],
        ["X y: a"],
    ],
)
def test_requests_that_two_readers_would_divide_differently(tight: Server, lines: list[str]) -> None:
    """Smuggling: whatever hides in the body is not answered as a request of its own."""
    hidden = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    found = said(tight, head("/predict", *lines), hidden)
    assert found[0][0] == 400
    assert len(found) == 1


@pytest.mark.parametrize(
    "line", [b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 100]
)
def test_what_is_no_http_is_told_so_in_json(tight: Server, line: bytes) -> None:
    status, told = one(tight, line)
    assert status == 400
    assert told["error"]


def test_slow_clients_cost_their_connection_alone(tight: Server, colors: dict[str, bytes]) -> None:
    """Slow headers, bodies, bytes between requests, bodies that nobody reads: all are ended within their time."""
    begun = {
        "header": b"POST /predict HTTP/1.1\r\nHost: a\r\n",
        "body": head("/predict", "Content-Length: 1000") + b"x",
        "nobody reads": head("/livez", "Content-Length: 100000"),
        "nothing": b"",
        "between": head("/livez", method="GET"),
    }
    drip = {"header": b"A: b\r\n", "body": b"x", "nobody reads": b"x", "nothing": b"", "between": b"\r\n"}
    ended = dict[str, float]()
    start_s = time.monotonic()

    def crawl(name: str) -> None:
        with connected(tight) as connection:
            connection.sendall(begun[name])
            connection.settimeout(0.3)
            while time.monotonic() - start_s < 30:
                try:
                    if not connection.recv(10_000):
                        break
                except TimeoutError:
                    pass
                except ConnectionError:
                    break
                try:
                    connection.sendall(drip[name])
                except ConnectionError:
                    break
            ended[name] = time.monotonic() - start_s

    threads = [threading.Thread(target=crawl, args=(name,)) for name in begun]
    for thread in threads:
        thread.start()
    assert tight.predict(colors["red"])[0] == 200
    for thread in threads:
        thread.join(PATIENCE_S)
    assert {name: seconds for name, seconds in ended.items() if seconds > 25} == {}
    assert set(ended) == set(begun)


def test_a_client_that_does_not_read_is_left(tight: Server) -> None:
    """Answers that nobody fetches: the connection ends, and what was not sent does not stay."""
    process = psutil.Process(tight.process.pid)
    before = len(process.net_connections())
    with connected(tight) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1)
        try:
            for _ in range(4000):
                connection.sendall(head("/v2", method="GET") * 100)
        except OSError:  # it reads no more, or has gone
            pass
        end = time.monotonic() + PATIENCE_S
        while len(process.net_connections()) > before and time.monotonic() < end:
            time.sleep(0.1)
        assert len(process.net_connections()) <= before


def test_more_connections_than_allowed_are_told_so(tight: Server) -> None:
    held = [connected(tight) for _ in range(40)]
    time.sleep(0.2)
    found = said(tight, b"")
    for connection in held:
        connection.close()
    assert found == [(503, {"error": "too many connections are open"})]
    end = time.monotonic() + PATIENCE_S
    while tight.ask("GET", "/livez")[0] != 200 and time.monotonic() < end:
        time.sleep(0.05)


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
    before = memory(tight)
    for encoding, body in (("gzip", bomb), ("gzip, gzip", gzip.compress(bomb))):
        status, told = tight.predict(body, f"{MODEL}/infer", content_encoding=encoding)
        assert status in (400, 413)
        assert told["error"]
    assert memory(tight) - before < 20e6


TRAVERSALS = [
    "..",
    ".",
    "...",
    "../..",
    "..%2f..",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..",
    "..%252f..",
    "%252e%252e",
    "../../../../etc/passwd",
    "....//....//etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "~",
    "~root",
    "%00",
    "one%00",
    "one%00.onnx",
    "one%0a",
    "one%0d%0aX-Y:z",
    "one%20",
    "%20one",
    "%20",
    "one/",
    "one//",
    "/one",
    "one.",
    "one%2e",
    "one%23",
    "one%3f",
    "one;x",
    "one%3bx",
    "ONE",
    "%ef%bc%8e%ef%bc%8e",
    "%c0%ae%c0%ae",
    "%e2%80%ae",
    "x" * 5000,
    "file:%2f%2f%2fetc%2fpasswd",
    "//proc/self/root",
    "CON",
    "one%00%2f..%2ftwo",
    "${jndi:x}",
    "{{7*7}}",
    "'%20or%201=1--",
]


@pytest.mark.parametrize("name", TRAVERSALS, ids=lambda name: name[:20])
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
