"""What both clients are made of: where the server is, what they are allowed, and requests as httpx takes them."""

from __future__ import annotations

import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sortal.client.talk import Failure, Patience, Reply, Send
from sortal.core.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import httpx

_CONNECT_S = 5.0
"""The longest that one attempt to connect may take."""
_HINTS = {
    "CERTIFICATE_VERIFY_FAILED": "name the file of who signed it: ca=… ; and an address that it is for",
    "WRONG_VERSION_NUMBER": "does it speak TLS? If not: http://…",
    "disconnected without": "is it running? Does it speak TLS (https://…), or ask for a certificate (certificate=…)?",
    "illegal status line": "this is no HTTP; is it another port, or https://…?",
}
"""What a reason of OpenSSL or httpx has in it -> what to do."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Common:
    """What both clients are made of."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        model: str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        batch: int | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
    ):
        """`url` of the server; `key` where it asks for API keys; `model`, its name where several are served.

        `timeout`: seconds that one request may take with all its repetitions; `retries`: repetitions at most.
        `batch`: images in one request at most, by default as many as the server takes. `ca`: a file of certificates to
        trust instead of the system's; `certificate`: files of the own one and its key, where the server asks for one.
        Raises InputError for what is no address, and MissingExtraError.
        """
        package()
        _check("timeout", timeout, timeout > 0)
        _check("retries", retries, retries >= 0)
        _check("batch", batch, batch is None or batch >= 1)
        _check("key", "…", key is None or is_header(key))
        self._url = _checked(url)
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._query = {} if model is None else {"model": model}
        self._patience = Patience(timeout_s=timeout, retries=retries)
        self._once = Patience(timeout_s=timeout, retries=0)
        self._batch = batch
        self._opening = threading.Lock()
        """Threads that share a client open one connection pool."""
        self._trust = _trust(ca, certificate)

    def _options(self) -> dict[str, Any]:
        """For httpx; a server of this machine is not asked through a proxy."""
        local = urlsplit(self._url).hostname in _LOOPBACK
        return {"base_url": self._url, "headers": self._headers, "verify": self._trust, "trust_env": not local}


def request(step: Send) -> dict[str, Any]:
    """A request as httpx takes it."""
    ask = step.ask
    timeout = package().Timeout(step.limit_s, connect=min(step.limit_s, _CONNECT_S))
    return {
        "method": ask.method,
        "url": ask.path,
        "params": dict(ask.query),
        "content": ask.body or None,
        "headers": dict(ask.headers),
        "timeout": timeout,
    }


def reply(response: httpx.Response, body: bytes) -> Reply:
    """What came back."""
    return Reply(status=response.status_code, headers={k.lower(): v for k, v in response.headers.items()}, body=body)


def failure(error: Exception, end_s: float) -> Failure:
    """Why nothing came back until `end_s`."""
    reason, late = str(error) or type(error).__name__, time.monotonic() >= end_s
    hint = next((told for mark, told in _HINTS.items() if mark in reason), None)
    return Failure(reason=reason, late=late) if hint is None else Failure(reason=reason, late=late, hint=hint)


def explained(query: dict[str, str], class_name: str | None) -> dict[str, str]:
    """The query that asks for an explanation."""
    return query if class_name is None else {**query, "class": class_name}


def is_header(text: str) -> bool:
    """Whether it can be sent as the value of a header."""
    return bool(text) and text.isascii() and text.isprintable()


def _trust(
    ca: str | os.PathLike[str] | None, certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None
) -> ssl.SSLContext:
    """Raises InputError for files that are no certificates."""
    try:
        context = ssl.create_default_context(cafile=None if ca is None else os.fspath(ca))
        if certificate is not None:
            context.load_cert_chain(*certificate)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(str(one) for one in (ca, *(certificate or ())) if one is not None)
        raise InputError("these certificates cannot be used", where=named, received=str(error)) from error
    return context


def _check(name: str, value: object, good: object) -> None:
    if not good:
        raise InputError("this option of a client cannot be so", where=name, received=str(value))


def _checked(url: str) -> str:
    """Raises InputError for what is no address of HTTP."""
    try:
        found = urlsplit(url)
        good = found.scheme in ("http", "https") and bool((found.hostname or "").encode("idna"))
        good = good and (found.port is None or found.port > 0) and not any(map(str.isspace, url))
    except ValueError:  # of a port or an address that is none; UnicodeError of a name is one too
        good = False
    if not good:
        raise InputError("this is no address of a server", received=url[:200], hint="http://127.0.0.1:8000")
    return url.rstrip("/")


def package() -> Any:
    """httpx. Raises MissingExtraError."""
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("httpx", "client") from error
    return httpx
