"""Images fetched by their URL, without lending a client the server's place in its network (request forgery, SSRF).

Only http and https, on their ports, without user names. A name is looked up once, every address that it has must be
public, and the connection goes to an address that was checked: a second look-up, which could say something else, never
happens. Redirects are followed a few times, each as if it were the first. Size, time and number are bounded. No proxy
of the environment is used, no cookie and no header of the client is passed on.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore

from sortal.core.errors import DeadlineError, InputError, OverloadError
from sortal.serve.guard.addresses import is_public
from sortal.serve.intake import TooLargeError

_SCHEMES = {"http": 80, "https": 443}
_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_TOTAL_S = 5.0
_AT_ONCE = 8
_MOST_WAITING = 64
_LONGEST = 2048
_NOT_PUBLIC = "an image is fetched from the public network alone, and its name is not one of it"
_NO_URL = "this is no URL"
"""Also where a name is not known: who asks shall not learn which names there are inside."""
_HEADERS = [("Accept", "image/*"), ("Accept-Encoding", "identity"), ("User-Agent", "sortal"), ("Connection", "close")]


class _Budget:
    """Bytes that the images of one request may have together."""

    def __init__(self, most: int):
        self._most, self._left = most, most

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLargeError(f"the images of a request may have {self._most / 1e6:g} MB")


class Fetcher:
    """Fetches for one server. `is_allowed` and `ports` are for tests, which have no public network."""

    def __init__(
        self,
        most_bytes: int,
        *,
        is_allowed: Callable[[str], bool] = is_public,
        ports: Iterable[int] = (80, 443),
        trust: ssl.SSLContext | None = None,
    ):
        self._most, self._ports = most_bytes, frozenset(ports)
        self._trust = trust or httpcore.default_ssl_context()  # once: making one takes long on the loop of everybody
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._backend = _Checked(is_allowed)

    async def __call__(self, urls: Sequence[str]) -> list[bytes]:
        """The bytes of the images of one request. Raises InputError for what may not be fetched or is not there,
        TooLargeError, DeadlineError, OverloadError."""
        if self._waiting and self._waiting + len(urls) > _MOST_WAITING:
            raise OverloadError("too many images are being fetched")
        self._waiting += len(urls)
        budget = _Budget(self._most)
        tasks = [asyncio.create_task(self._fetched(url, budget)) for url in urls]
        try:
            async with asyncio.timeout(_TOTAL_S):
                return await asyncio.gather(*tasks)
        except TimeoutError as error:
            raise DeadlineError(f"the images were not fetched within {_TOTAL_S:g} s") from error
        finally:
            for task in tasks:
                task.cancel()
            self._waiting -= len(urls)

    async def _fetched(self, url: str, budget: _Budget) -> bytes:
        try:
            async with self._places:
                return await self._followed(url, budget)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError) as error:
            raise InputError("the image cannot be fetched", hint="the address has to answer with the image") from error

    async def _followed(self, url: str, budget: _Budget) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            found = await self._asked(self._split(url), budget)
            if isinstance(found, bytes):
                return found
            try:
                url = urljoin(url, found)
            except ValueError as error:
                raise InputError(_NO_URL) from error
        raise InputError(f"an image may be redirected {_MOST_REDIRECTS} times")

    async def _asked(self, url: SplitResult, budget: _Budget) -> bytes | str:
        """The body, or where it redirects to."""
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        place = httpcore.URL(
            scheme=url.scheme.encode(),
            host=(url.hostname or "").encode("idna"),
            port=url.port or _SCHEMES[url.scheme],
            target=target.encode(),
        )
        async with (
            httpcore.AsyncConnectionPool(network_backend=self._backend, ssl_context=self._trust) as pool,
            pool.stream("GET", place, headers=[("Host", url.netloc), *_HEADERS]) as response,
        ):
            if response.status in _REDIRECTS:
                return _location(response.headers)
            if response.status != 200:
                raise InputError("the image cannot be fetched", received=f"status {response.status}")
            body = bytearray()
            async for part in response.aiter_stream():
                budget.take(len(part))
                body += part
            return bytes(body)

    def _split(self, url: str) -> SplitResult:
        """Raises InputError for an address that is not fetched from."""
        try:
            found = urlsplit(url)
            port, name = found.port, found.hostname
            name = name.encode("idna").decode() if name else None
        except ValueError as error:
            raise InputError(_NO_URL) from error
        plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url and len(url) <= _LONGEST
        if not plain or found.scheme not in _SCHEMES or not name:
            raise InputError("an image is fetched by http or https", hint="https://example.org/a.jpg")
        if found.username is not None or found.password is not None:
            raise InputError("a URL of an image has no user name")
        if (port or _SCHEMES[found.scheme]) not in self._ports:
            raise InputError("an image is fetched from ports 80 and 443")
        return found


class _Checked(httpcore.AnyIOBackend):
    """Connects to addresses that were checked, and to no name."""

    def __init__(self, is_allowed: Callable[[str], bool]):
        self._is_allowed = is_allowed
        self._lookups = ThreadPoolExecutor(_AT_ONCE, "lookup")  # of its own: names that never come hold up nobody else

    async def connect_tcp(self, host: str, port: int, *more: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        addresses = await self._addresses(host, port)
        if not addresses or not all(self._is_allowed(address) for address in addresses):
            raise InputError(_NOT_PUBLIC)
        for address in addresses[:-1]:
            try:
                return await super().connect_tcp(address, port, *more, **named)
            except httpcore.ConnectError:
                continue
        return await super().connect_tcp(addresses[-1], port, *more, **named)

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise InputError(_NOT_PUBLIC)

    async def _addresses(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()

        def look_up() -> list[Any]:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

        try:
            found = await loop.run_in_executor(self._lookups, look_up)
        except (OSError, UnicodeError) as error:
            raise InputError(_NOT_PUBLIC) from error
        return list(dict.fromkeys(str(one[4][0]) for one in found))


def _location(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name.lower() == b"location":
            return value.decode("latin-1")
    raise InputError("the image cannot be fetched: a redirect leads nowhere")
