"""Images by URL: what is fetched, and that nothing of one's own network is reached, whatever the URL says."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from servers import Server, Start
from sortal.core.errors import DeadlineError, InputError, OverloadError, SortalError
from sortal.serve.guard import fetch
from sortal.serve.guard.addresses import is_public
from sortal.serve.guard.fetch import Fetcher
from sortal.serve.intake import TooLargeError

PRIVATE = [
    "127.0.0.1",
    "127.255.0.9",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:1::1",
]
PUBLIC = ("8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e")


class Sentinel:
    """A server on loopback that counts who connects, and answers what `say` returns for a path."""

    def __init__(self) -> None:
        self.hits, self.heads = 0, list[bytes]()
        self.say: Callable[[str], bytes] = lambda _: reply(b"an image")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.hits += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while b"\r\n\r\n" not in head and (part := connection.recv(10_000)):
                head += part
            self.heads.append(head)
            try:
                connection.sendall(self.say(head.split(b" ")[1].decode()))
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


def reply(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(place: str) -> bytes:
    return reply(b"", "302 Found", f"Location: {place}")


@pytest.fixture
def sentinel() -> Iterator[Sentinel]:
    found = Sentinel()
    yield found
    found.close()


def got(url: str, *, most: int = 1000, **how: object) -> bytes:
    async def run() -> bytes:
        return (await Fetcher(most, **how)([url]))[0]  # type: ignore[arg-type]

    return asyncio.run(run())


def anywhere(_: str) -> bool:
    return True


def test_which_addresses_are_public() -> None:
    assert [address for address in PRIVATE if is_public(address)] == []
    assert [address for address in PUBLIC if not is_public(address)] == []


def test_without_the_guard_the_sentinel_is_reached(sentinel: Sentinel) -> None:
    """The control: what the tests below keep from happening does happen where nothing keeps it."""
    url = f"http://localhost:{sentinel.port}/a%20b.jpg?size=2"
    assert got(url, is_allowed=anywhere, ports=[sentinel.port]) == b"an image"
    assert sentinel.hits == 1
    head = sentinel.heads[0].decode().lower()
    assert head.startswith("get /a%20b.jpg?size=2 http/1.1\r\n")
    assert f"host: localhost:{sentinel.port}\r\n" in head
    assert "authorization" not in head
    assert "cookie" not in head


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "localhost.",
        "LOCALHOST",
        "\u2460\u2461\u2466.0.0.1",
        "169.254.169.254",
        "[fe80::1%25lo]",
    ],
)
def test_no_spelling_of_an_own_address_is_connected_to(sentinel: Sentinel, host: str) -> None:
    with pytest.raises(InputError):
        got(f"http://{host}:{sentinel.port}/", ports=[sentinel.port])
    assert sentinel.hits == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "ftp://example.org/a.jpg",
        "dict://127.0.0.1:11211/",
        "http:/example.org",
        "//example.org/a.jpg",
        "http://",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://example.org@127.0.0.1/",
        "http://example.org:22/",
        "http://example.org:99999/",
        "http://example.org:x/",
        "http://example.org\\@127.0.0.1/",
        "http://example.org/a b",
        "http://example.org/\r\nX: y",
        "http://exa\tmple.org/",
        "http://[::1",
        "http://" + "a" * 300 + ".org/",
        "http://example.org/" + "a" * 3000,
        "",
        "\x00",
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        got(url)


def test_a_name_is_looked_up_once(sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer, which is loopback, is never asked for; one bad address of two is enough."""
    asked, real = list[str](), socket.getaddrinfo
    answers = [["192.0.2.7"], ["127.0.0.1"]]

    def look_up(host: str, port: int, **more: object) -> list[object]:
        if host != "rebind.example":
            return list(real(host, port, **more))  # type: ignore[arg-type]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answers[min(len(asked), 2) - 1]]

    monkeypatch.setattr(fetch.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(fetch, "_TOTAL_S", 1.0)
    with pytest.raises(SortalError):
        got(f"http://rebind.example:{sentinel.port}/", is_allowed=lambda one: one == "192.0.2.7", ports=[sentinel.port])
    assert asked == ["rebind.example"]
    answers[:] = [["8.8.8.8", "127.0.0.1"]] * 2
    with pytest.raises(InputError):
        got(f"http://rebind.example:{sentinel.port}/", ports=[sentinel.port])
    assert sentinel.hits == 0


def test_redirects_are_followed_three_times_and_each_is_checked(sentinel: Sentinel) -> None:
    own = f"http://127.0.0.1:{sentinel.port}"

    def say(path: str) -> bytes:
        left = int(path[1:])
        return reply(b"there") if left == 0 else redirect(f"/{left - 1}" if left % 2 else f"{own}/{left - 1}")

    sentinel.say = say
    free = {"is_allowed": anywhere, "ports": [sentinel.port]}
    assert got(f"{own}/3", **free) == b"there"
    with pytest.raises(InputError, match="redirected 3 times"):
        got(f"{own}/4", **free)
    other = Sentinel()
    for place in (
        f"http://localhost:{other.port}/",
        "file:///etc/passwd",
        f"http://user:x@127.0.0.1:{sentinel.port}/0",
        "http://[::1]/",
        "",
    ):
        sentinel.say = lambda _, place=place: redirect(place)
        with pytest.raises(InputError):
            got(f"{own}/", is_allowed=lambda one: one == "127.0.0.1", ports=[sentinel.port])
    assert other.hits == 0
    other.close()


def test_size_time_and_number_are_bounded(sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"is_allowed": anywhere, "ports": [sentinel.port]}
    own = f"http://127.0.0.1:{sentinel.port}/"
    sentinel.say = lambda _: reply(b"x" * 1001)
    with pytest.raises(TooLargeError):
        got(own, **free)
    sentinel.say = lambda _: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000
    with pytest.raises(TooLargeError):
        got(own, **free)
    sentinel.say = lambda _: reply(b"x" * 400)

    async def three() -> list[bytes]:
        return await Fetcher(1000, **free)([own] * 3)  # type: ignore[arg-type]

    with pytest.raises(TooLargeError):  # together
        asyncio.run(three())

    async def crowd() -> list[bytes | BaseException]:
        fetcher = Fetcher(1_000_000, **free)  # type: ignore[arg-type]
        asked = [fetcher([own] * 65), fetcher([own])]
        first, second = await asyncio.gather(*asked, return_exceptions=True)
        return [first, second]  # type: ignore[list-item]

    first, second = asyncio.run(crowd())
    assert len(first) == 65  # type: ignore[arg-type]
    assert isinstance(second, OverloadError)
    for place in ("http://[", "//["):
        sentinel.say = lambda _, place=place: reply(b"", f"302 Found\r\nLocation: {place}")
        with pytest.raises(InputError):
            got(own, **free)
    for answer in (
        b"no http",
        reply(b"", "404 Not Found"),
        reply(b"", "204 No Content"),
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000,
    ):
        sentinel.say = lambda _, answer=answer: answer
        with pytest.raises(InputError):
            got(own, **free)
    monkeypatch.setattr(fetch, "_TOTAL_S", 0.5)

    def drip(_: str) -> bytes:
        time.sleep(2)
        return b""

    sentinel.say = drip
    with pytest.raises(DeadlineError):
        got(own, **free)


def test_a_certificate_has_to_be_for_the_name(tmp_path: Path) -> None:
    """The connection goes to an address, and TLS asks for the name in the URL."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        for _ in range(2):
            raw, _ = listener.accept()
            try:
                with context.wrap_socket(raw, server_side=True) as shaken:
                    shaken.recv(10_000)
                    shaken.sendall(reply(b"an image"))
            except OSError:
                raw.close()

    thread = threading.Thread(target=serve)
    thread.start()
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    free = {"is_allowed": anywhere, "ports": [port], "trust": trust}
    assert got(f"https://localhost:{port}/", **free) == b"an image"
    with pytest.raises(InputError):
        got(f"https://127.0.0.1:{port}/", **free)
    thread.join(30)
    listener.close()


def asked(server: Server, **told: object) -> tuple[int, str]:
    status, answer = server.predict(json.dumps(told).encode(), content_type="application/json")
    return status, answer.get("error", "")


def test_a_server_fetches_nothing_unless_it_is_told_to(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], sentinel: Sentinel
) -> None:
    server = start(bundles[0], "workers=1")
    url = f"http://127.0.0.1:{sentinel.port}/"
    assert asked(server, url=url) == (400, "this server fetches no images")
    fetching = start(bundles[0], "workers=1", "urls=true", "images=2")
    for one in (url, "http://127.0.0.1/", "http://localhost:80/", "http://169.254.169.254/latest/meta-data/"):
        status, said = asked(fetching, url=one)
        assert status == 400
        assert "fetched from" in said
    assert asked(fetching, urls=[url] * 3)[0] == 413
    for told in ({"url": 3}, {"urls": url}, {"urls": [None]}, {"url": url, "image": ""}, {"urls": []}):
        assert asked(fetching, **told)[0] == 400, told
    text = base64.b64encode(colors["red"]).decode()
    assert asked(fetching, image=text) == (200, "")
    assert sentinel.hits == 0
    for one in (server, fetching):
        one.account()
