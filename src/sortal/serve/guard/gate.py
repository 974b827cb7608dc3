"""The gate before all routes of HTTP: who is this, and may they ask that. What is refused is JSON and counted.

Without a ring of keys every route is open, which `story` allows on loopback alone unless it is told otherwise; pages of
other sites are kept out then, see `origins`.
"""

from __future__ import annotations

import math
from typing import Any

from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sortal.core.errors import MissingExtraError
from sortal.serve.account import Told
from sortal.serve.guard.access import NotListedError, allowed_for
from sortal.serve.guard.caller import CALLER, STRANGER
from sortal.serve.guard.origins import is_foreign
from sortal.serve.guard.ring import STATUS, KeyRing, Reason, Refusal, secret_of
from sortal.serve.settings import ServeSettings


def counter() -> Counter:
    """What is refused at a gate, for `Metrics.watch`."""
    return Counter("sortal_refused", "Requests refused before they were read", ["reason"], registry=None)


LOGGED: frozenset[Reason] = frozenset({"wrong key", "expired", "not allowed"})
"""The others are counted alone: whoever sends them without end shall not fill the log."""
_ASKED = ("authorization", "x-api-key", "content-type", "content-encoding", "x-request-id")
_TOLD = ("x-request-id", "retry-after")
_PROTOCOL = ("inference-header-content-length",)


def tell(refusal: Refusal, address: str, path: str, refused: Counter, log: Told) -> None:
    """Count a refusal, and log it where nobody can fill the log with it."""
    refused.labels(refusal.reason).inc()
    if refusal.reason in LOGGED:
        log({"event": "refused", "reason": refusal.reason, "address": address, "key": refusal.name, "path": path})


def guard(app: Starlette, keeper: Keeper, settings: ServeSettings) -> Starlette:
    """Put the gate, and where origins are named the permission for their pages, before every route of `app`."""
    app.router.redirect_slashes = False  # one address for one thing
    app.state.fetch = _fetcher(settings) if settings.urls else None
    app.add_middleware(Gate, keeper=keeper)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=("GET", "POST"),
            allow_headers=_ASKED + _PROTOCOL,
            expose_headers=_TOLD + _PROTOCOL,
        )
    return app


def _fetcher(settings: ServeSettings) -> Any:
    try:
        from sortal.serve.guard.fetch import Fetcher
    except ImportError as error:
        raise MissingExtraError(error.name or "httpcore", "serve") from error
    return Fetcher(int(settings.body_mb * 1e6))


class Gate:
    """Middleware: passes on what may be asked."""

    def __init__(self, app: ASGIApp, *, keeper: Keeper):
        self._app, self._keeper = app, keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        refused = self._keeper.refused(scope)
        await (self._app if refused is None else refused)(scope, receive, send)


class Keeper:
    """Who decides at the gate of one application."""

    def __init__(self, routed: Starlette, ring: KeyRing | None, refused: Counter, settings: ServeSettings, log: Told):
        self._routed, self._ring = routed, ring
        self._counted, self._settings, self._log = refused, settings, log

    def refused(self, scope: Scope) -> Response | None:
        """The answer to those who may not ask this; None where they may, and `CALLER` says who they are then."""
        headers = Headers(scope=scope)
        if self._ring is None:
            return self._foreign(headers, scope["method"])
        try:
            allowed, path = allowed_for(scope, self._routed.routes)
        except NotListedError:
            return JSONResponse({"error": "this address is closed"}, 403)
        address = (scope.get("client") or ("",))[0]
        found = self._ring.admit(secret_of(headers), allowed, address)
        if not isinstance(found, Refusal):
            CALLER.set(found.name)
            STRANGER.set(allowed is None)
            return None
        tell(found, address, path, self._counted, self._log)
        return _response(found)

    def _foreign(self, headers: Headers, method: str) -> Response | None:
        origin = headers.get("origin")
        if origin is None or method in ("GET", "HEAD"):
            return None
        here = self._settings
        if not is_foreign(origin, headers.get("host", ""), here.origins, on_loopback=here.is_loopback):
            return None
        self._counted.labels("foreign page").inc()
        told = {"error": "a page of another site may not ask this server", "hint": "origins=[https://that.site]"}
        return JSONResponse(told, 403)


def _response(refusal: Refusal) -> Response:
    told = {"error": refusal.what} | ({"hint": refusal.hint} if refusal.hint else {})
    status = STATUS[refusal.reason]
    headers = {}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="sortal"'
    if refusal.retry_after_s:
        headers["retry-after"] = str(math.ceil(refusal.retry_after_s))
    return JSONResponse(told, status, headers=headers)
