"""The addresses of the protocol in HTTP.

    GET  /v2 /v2/health/live /v2/health/ready /v2/models/NAME[/versions/1][/ready|/config|/stats]
    POST /v2/models/NAME[/versions/1]/infer /v2/repository/index

Any content type is taken, since clients send none or a wrong one; every success is 200 and every error JSON with
`error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sortal.core.errors import MachineError, NotFoundError, SortalError
from sortal.serve.account import Account, Call
from sortal.serve.answers import is_plain_id, request_id, routing_key
from sortal.serve.guard.keys import masked
from sortal.serve.intake import TooLargeError, parse_json, read_body
from sortal.serve.metrics import Outcome
from sortal.serve.models import VERSION
from sortal.serve.oip.aside import LARGE, aside
from sortal.serve.oip.dialogue import Dialogue
from sortal.serve.oip.tensors import HEADER, InferRequest, packed, read_request, unpacked, write_response
from sortal.serve.refusals import refused, status_of
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.trace_parent import HEADER as TRACE

_OK: Outcome = "ok"


class Protocol:
    """The routes of one dialogue."""

    def __init__(self, dialogue: Dialogue, account: Account, settings: ServeSettings):
        self._dialogue, self._account, self._settings = dialogue, account, settings

    def routes(self) -> list[Route]:
        """For the application."""
        found = [
            Route("/v2", self.server),
            Route("/v2/", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/stats", self.statistics),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route("/v2/repository/models/{name}/load", self.not_offered, methods=["POST"]),
            Route("/v2/repository/models/{name}/unload", self.not_offered, methods=["POST"]),
        ]
        for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            found += [
                Route(prefix, self.model),
                Route(f"{prefix}/ready", self.model_ready),
                Route(f"{prefix}/config", self.configuration),
                Route(f"{prefix}/stats", self.statistics),
                Route(f"{prefix}/infer", self.infer, methods=["POST"]),
            ]
        return found

    async def server(self, _: Request) -> Response:
        """See `Dialogue.server`."""
        return JSONResponse(self._dialogue.server())

    async def live(self, _: Request) -> Response:
        """200 while the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """200 while a request would be answered."""
        ready = self._dialogue.is_ready
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """As `ready`, for a model that is there."""

        def told(name: str, version: str) -> dict[str, Any]:
            if not self._dialogue.is_model_ready(name, version):
                raise MachineError("the classifier is not ready yet")
            return {"name": name, "ready": True}

        return _about(request, told)

    async def model(self, request: Request) -> Response:
        """See `Dialogue.metadata`."""
        return _about(request, self._dialogue.metadata)

    async def configuration(self, request: Request) -> Response:
        """See `Dialogue.configuration`."""
        return _about(request, self._dialogue.configuration)

    async def index(self, request: Request) -> Response:
        """See `Dialogue.index`."""
        try:
            body = await read_body(request, self._settings)
            if len(body) > LARGE:
                raise TooLargeError(f"this question has {LARGE // 1024} kB at most", received=f"{len(body):,} bytes")
            asked = parse_json(body) if body else {}
        except SortalError as error:
            return refused(error, "")[0]
        return JSONResponse(self._dialogue.index(ready=isinstance(asked, dict) and asked.get("ready") is True))

    async def not_offered(self, _: Request) -> Response:
        """No client says which files a server loads."""
        told = {"error": "models are not loaded and unloaded by clients", "hint": "sortal promote RUN WORKSPACE"}
        return JSONResponse(told, 501)

    async def statistics(self, request: Request) -> Response:
        """See `Dialogue.statistics`."""
        if "name" not in request.path_params:
            return JSONResponse({"model_stats": self._dialogue.statistics()})
        return _about(request, lambda name, version: {"model_stats": self._dialogue.statistics(name, version)})

    async def infer(self, request: Request) -> Response:
        """Answer pixels."""
        call = self._account.begin("oip", request_id(request.headers), trace_parent=request.headers.get(TRACE, ""))
        try:
            response, outcome = await self._inferred(request, call), _OK
        except asyncio.CancelledError:
            self._account.finish(call, "cancelled", 499)
            raise
        except SortalError as error:
            response, outcome = refused(error, call.name)
            if not isinstance(error, NotFoundError):
                self._dialogue.note(request.path_params["name"], outcome, call)
        except Exception:
            self._account.finish(call, "failed", 500)
            raise
        self._account.finish(call, outcome, response.status_code)
        return response

    async def _inferred(self, request: Request, call: Call) -> Response:
        name, version = _named(request)
        call.key = routing_key(request.headers)
        self._dialogue.check(name, version)  # said before the body is read
        body = await read_body(request, self._settings)
        encoding, length = request.headers.get("content-encoding", "").strip().lower(), request.headers.get(HEADER)
        most = int(self._settings.body_mb * 1e6)

        def read() -> InferRequest:
            plain = unpacked(body, encoding, most)
            return self._dialogue.whole(name, version, plain) if length == "0" else read_request(plain, length)

        asked = await aside(most if encoding else _json_size(body, length), read)
        call.name = asked.name if asked.name and is_plain_id(asked.name) else call.name
        inferred = await self._dialogue.infer(call, name, version, asked)
        head = {"model_name": inferred.model, "model_version": VERSION} | ({"id": asked.name} if asked.name else {})
        text, size = write_response(head, inferred.outputs)
        headers = {} if size is None else {HEADER: str(size)}
        accepted = request.headers.get("accept-encoding", "")
        text, packing = await aside(len(text), lambda: packed(text, accepted))
        if packing is not None:
            headers["content-encoding"] = packing
        kind = "application/json" if size is None else "application/octet-stream"
        self._dialogue.note(name, "ok", call)
        return Response(text, media_type=kind, headers=headers)


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params.get("version", "")


def _json_size(body: bytes, length: str | None) -> int:
    """What of a body is JSON; bytes behind it are only copied."""
    known = length is not None and length.isascii() and length.isdigit()
    return min(int(length[:12]), len(body)) if length and known else len(body)


def _about(request: Request, told: Callable[[str, str], dict[str, Any]]) -> Response:
    try:
        return JSONResponse(told(*_named(request)))
    except SortalError as error:
        return _told(error)


def _told(error: SortalError) -> Response:
    return JSONResponse({"error": masked(str(error))}, status_of(error)[0])
