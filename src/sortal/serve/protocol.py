"""uvicorn's HTTP within limits that uvicorn has not: on time, headers, connections, and clients that do not read.

See https://github.com/Kludex/uvicorn/discussions/157. What a body may weigh is `intake`'s; here a request has to be
there in time whether or not somebody reads it, since an answer can come before the body (a refusal, an address that is
none). Whatever is refused here is JSON too, and its connection ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from contextvars import copy_context
from http import HTTPStatus
from typing import Any, ClassVar

from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sortal.serve.settings import ServeSettings

_MOST_HEAD = 65_536
"""Bytes of headers, trailers, or anything else that is no body."""
_GRACE_S = 2.0
"""How much longer than the application a connection waits for a body, so that the application can say so."""
_RESERVED = 16
"""File descriptors of the process itself."""
_OF_A_WORKER = 6
_SAME = -1.0
"""The last bytes began no other stage of a request."""

ASGI = Callable[[Any, Any, Any], Any]
Early = Callable[[Scope], Response | None]
"""Tells from the headers of a POST what it is answered with before its body is read; None where it goes its way. The
scope holds what ASGI calls type, method, path, query_string, headers and client."""


def most_connections(settings: ServeSettings, workers: int) -> int:
    """Of HTTP, and as many of gRPC: as the settings say, and so that descriptors are left for files and for so many
    `workers`, those of all models."""
    if sys.platform == "win32":
        return settings.connections
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return settings.connections
    reserved = _RESERVED + _OF_A_WORKER * 2 * workers  # twice: another classifier may be starting
    ways = 1 if settings.grpc_port is None else 2
    return max(4, min(settings.connections, (limit - min(reserved, limit // 2)) // ways))


def limited_protocol(settings: ServeSettings, workers: int, early: Early) -> type[asyncio.Protocol]:
    """A protocol class that holds these limits, in a server of so many workers."""
    most = most_connections(settings, workers)
    return type("Limited", (_Limited,), {"_limits": settings, "_most": most, "_early": staticmethod(early)})


class _Limited(HttpToolsProtocol):
    """The protocol of one connection; `limited_protocol` gives a subclass its limits."""

    _limits: ClassVar[ServeSettings]
    _most: ClassVar[int]
    """Connections that may be open at once."""
    _early: ClassVar[staticmethod[[Scope], Response | None]]
    _patience: asyncio.TimerHandle | None = None
    """Until the client has sent what it has to send."""
    _unread: asyncio.TimerHandle | None = None
    """Until the client has read what it was sent."""
    _head = 0
    """Bytes since the last of a body."""
    _has_begun = False
    """Whether a request has begun and not ended."""
    _has_head = False
    """Whether its headers are there."""
    _is_dropped = False
    """Whether it was answered from its headers, and its body is read for nobody."""
    _stage_s: float | None = None
    """How long the stage may take that the last bytes began; None where they ended the request. A timer is set once for
    all that came together: a request that is there as a whole needs none."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            self._refuse(503, "too many connections are open", {"retry-after": "1"})
            return
        self._wait(self._limits.header_s)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._head += len(data)
        was_idle, self._stage_s = self.timeout_keep_alive_task is not None, _SAME
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._time_stage()
        if was_idle and not self._has_begun and not self._is_waiting:  # bytes between requests buy no time
            self._wait(self._limits.header_s)
        if self._head > _MOST_HEAD + len(data):
            self._refuse(431, "the headers are too large")

    def _time_stage(self) -> None:
        if self._stage_s is None:
            _stop(self._patience)
        elif self._stage_s != _SAME:
            self._wait(self._stage_s)

    def on_message_begin(self) -> None:
        self._has_begun, self._has_head, self._is_dropped = True, False, False
        self._stage_s = self._limits.header_s
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        self.app = _headers_too_large if size > _MOST_HEAD else self.config.loaded_app
        self._head, self._has_head = 0, True
        self._stage_s = self._limits.body_s + _GRACE_S
        refusal = self._early_refusal() if size <= _MOST_HEAD else None
        if refusal is None:
            super().on_headers_complete()
            return
        self._is_dropped = True
        self.transport.write(_message(refusal.status_code, refusal.raw_headers, bytes(refusal.body)))
        self.on_response_complete()

    def _early_refusal(self) -> Response | None:
        """A third of what it costs to start a task for it, and to go through all of the application."""
        is_busy = self.cycle is not None and not self.cycle.response_complete
        path, _, query = self.url.partition(b"?")
        if is_busy or self.parser.get_method() != b"POST" or not path.isascii() or self.expect_100_continue:
            return None
        if self.pipeline or not self.parser.should_keep_alive():
            return None
        asked = {"type": "http", "method": "POST", "path": path.decode(), "query_string": query}
        return copy_context().run(self._early, {**asked, "headers": self.headers, "client": self.client})

    def on_body(self, body: bytes) -> None:
        self._head = 0
        if not self._is_dropped:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._head, self._has_begun, self._stage_s = 0, False, None
        if not self._is_dropped:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._expect_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        _stop(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        _stop(self._patience)
        _stop(self._unread)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn says it in plain text
        """What uvicorn says of bytes that are no HTTP."""
        self._refuse(400, "this is no HTTP request that can be read")

    def _refuse(self, status: int, what: str, headers: dict[str, str] | None = None) -> None:
        self.transport.write(_answer(status, what, headers or {}))
        self._end()

    def _end(self) -> None:
        """Close; at once where the client does not read what is left."""
        _stop(self._patience)
        self.transport.close()
        self._expect_reading()

    def _wait(self, seconds: float) -> None:
        _stop(self._patience)
        self._patience = self.loop.call_later(seconds, self._too_slow)

    @property
    def _is_waiting(self) -> bool:
        return self._patience is not None and not self._patience.cancelled()

    def _too_slow(self) -> None:
        is_unanswered = self.cycle is None or self.cycle.response_complete
        if self._has_begun and not self._has_head and is_unanswered:
            self._refuse(408, "the request was not there in time")
        else:
            self._end()

    def _expect_reading(self) -> None:
        _stop(self._unread)
        self._unread = self.loop.call_later(self._limits.send_s, self._give_up)

    def _give_up(self) -> None:
        if self.transport.get_write_buffer_size() or self.transport.is_closing():
            self.transport.abort()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


async def _headers_too_large(_: Any, __: Any, send: Any) -> None:
    body = _told("the headers are too large")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _answer(status: int, what: str, more: dict[str, str]) -> bytes:
    body = _told(what)
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **more}
    return _message(status, ((name.encode(), value.encode()) for name, value in headers.items()), body)


def _message(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    return b"\r\n".join([*lines, *(b"%s: %s" % one for one in headers), b"", body])


def _told(what: str) -> bytes:
    return json.dumps({"error": what}).encode()
