"""An HTTP request when a label begins, tried again with back-off until it is too old to matter."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from sortal.core.errors import InputError
from sortal.stream.episodes import Change
from sortal.stream.sources.address import asked_of, masked, scrubbed, secrets_of

METHODS = ("POST", "PUT")
GIVE_UP_S = 60.0
_TRY_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_AGAIN = (408, 425, 429)


class Webhook:
    """`POST http://host/path` with the record of the episode as JSON. Redirects are not followed."""

    def __init__(self, method: str, url: str):
        self.shown = f"{method} {masked(url)}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError("no URL", where="--on-label", received=masked(url)) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
            hint = "http://host:port/path or https://host/path"
            raise InputError("no URL that is asked", where="--on-label", received=masked(url), hint=hint)
        self._method, self._secrets = method, secrets_of(url)
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, port
        self._path, user = asked_of(parts)
        self._headers = {"Content-Type": "application/json", "User-Agent": "sortal"} | user

    def wants(self, change: Change) -> bool:
        """Beginnings only."""
        return change.began

    def do(self, change: Change, is_over: threading.Event) -> str | None:
        """Ask until it is accepted, refused for good, or a minute is over."""
        body = json.dumps(change.record, ensure_ascii=False).encode()
        end_s, pause_s = time.monotonic() + GIVE_UP_S, _FIRST_PAUSE_S
        while True:
            status, wrong = self._asked(body)
            if status is not None and 200 <= status < 300:
                return None
            final = status is not None and status < 500 and status not in _AGAIN
            if final or time.monotonic() + pause_s > end_s:
                return scrubbed(wrong, self._secrets)
            if is_over.wait(pause_s * (0.5 + 0.5 * random.random())):
                return scrubbed(f"{wrong}; the stream ended before it could be tried again", self._secrets)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Nothing is held open."""

    def _asked(self, body: bytes) -> tuple[int | None, str]:
        made: Any = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = made(self._host, self._port, timeout=_TRY_S)
        try:
            connection.request(self._method, self._path, body, self._headers)
            status = int(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return None, f"no answer: {getattr(error, 'strerror', '') or error or type(error).__name__}"
        finally:
            connection.close()
        return status, f"answered with status {status}"
