"""What clients may not do to a server, over plain sockets: they are answered or ended, and the next one is served."""

from __future__ import annotations

import socket
import threading
import time

import psutil
import pytest

from servers import Server
from sockets import CLOSE, PATIENCE_S, connected, head, one, said

MODEL = "/v2/models/one"


pytestmark = pytest.mark.usefixtures("unharmed")


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
    before = tight.memory()
    status, told = one(tight, *parts)
    assert (status, told) == (431, {"error": "the headers are too large"})
    assert tight.memory() - before < 20e6


def test_headers_that_fit_are_taken(tight: Server) -> None:
    [(status, _)] = said(tight, head("/livez", "A: " + "x" * 30_000, CLOSE, method="GET"))
    assert status == 200


def test_trailers_and_extensions_of_chunks_have_a_size(tight: Server) -> None:
    begin = head("/predict", "Transfer-Encoding: chunked")
    before = tight.memory()
    for parts in (
        [begin, b"1\r\na\r\n0\r\nA: " + b"x" * 3_000_000],
        [begin, b"1\r\na\r\n0\r\n" + b"A: b\r\n" * 500_000],
        [begin, b"1;" + b"x" * 3_000_000],
    ):
        assert said(tight, *parts)[-1][0] in (400, 431)
    assert tight.memory() - before < 20e6


@pytest.mark.parametrize("path", ["/predict", "/feedback", f"{MODEL}/infer", "/v2/repository/index"])
def test_bodies_without_end_are_ended(tight: Server, path: str) -> None:
    before = tight.memory()
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    found = said(tight, head(path, "Transfer-Encoding: chunked"), *[chunk] * 400)
    assert found[0][0] in (404, 413)
    assert tight.memory() - before < 20e6


def test_a_million_chunks_of_one_byte(tight: Server) -> None:
    before = tight.memory()
    begin = head("/predict", "Transfer-Encoding: chunked", CLOSE)
    status, _ = one(tight, begin, b"1\r\nx\r\n" * 1_000_000, b"0\r\n\r\n")
    assert status in (408, 422)
    assert tight.memory() - before < 20e6


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
                connection.sendall(head("/openapi.json", method="GET"))
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
