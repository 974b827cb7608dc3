"""HTTP: answers to images, health that tells the truth about workers, metrics. Every error is JSON and says what to do.

POST /predict?top=5    an image as body, a form with files, or JSON with base64
POST /feedback         what an image really shows, where a workspace is served
GET  /livez /readyz /health /metrics
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sortal.core.errors import (
    ConflictError,
    DeadlineError,
    InputError,
    MachineError,
    NotFoundError,
    OverloadError,
    SortalError,
)
from sortal.serve.batcher import CRASHES
from sortal.serve.intake import TooLargeError, images_of, parse_json, read_body
from sortal.serve.metrics import Metrics, Outcome
from sortal.serve.oip.routes import Protocol
from sortal.serve.recorder import Recorder
from sortal.serve.service import TOP, Service

Told = Callable[[dict[str, Any]], None]
"""Receives one event of the log as plain data."""

_STATED: dict[type[SortalError], int] = {NotFoundError: 404, ConflictError: 409, MachineError: 507}
"""The status of an error about feedback; 507 is a disk that refuses."""
_ID_HEADER = "x-request-id"
_LONGEST_ID = 128


class Front:
    """The routes of one server over one service."""

    def __init__(self, service: Service, log: Told, recorder: Recorder | None = None):
        self._service, self._log, self._recorder = service, log, recorder
        self.metrics = Metrics()
        self.is_ending = False

    def app(self, name: str) -> Starlette:
        """The ASGI application; `name` is the model's for clients of the Open Inference Protocol."""
        protocol = Protocol(self._service, self.metrics, name, refused=_refused, finished=self._finish)
        routes = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/feedback", self.feedback, methods=["POST"]),
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/health", self.health),
            Route("/metrics", self.numbers),
            *protocol.routes(),
        ]
        return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_allowed, 500: _failed})

    async def predict(self, request: Request) -> Response:
        """Answer the images of a request."""
        self.metrics.received.inc()
        started_s, name = time.monotonic(), _request_id(request)
        try:
            response, outcome, count = await self._predicted(request, name)
        except asyncio.CancelledError:
            self._finish(name, "cancelled", 499, 0, started_s)
            raise
        except SortalError as error:
            status, outcome = _status(error)
            response, count = _refusal(error, status, name), 0
        except Exception:
            self._finish(name, "failed", 500, 0, started_s)
            raise
        self._finish(name, outcome, response.status_code, count, started_s)
        response.headers[_ID_HEADER] = name
        return response

    async def feedback(self, request: Request) -> Response:
        """Store a label that somebody gives an image; acknowledged when it is on the disk."""
        name = _request_id(request)
        try:
            if self._recorder is None:
                raise NotFoundError("labels are kept by a workspace", hint="sortal serve WORKSPACE")
            stored = await self._recorder.say(parse_json(await read_body(request, self._service.settings)))
        except SortalError as error:
            status = _STATED.get(type(error), 422 if type(error) is InputError else _status(error)[0])
            return _refusal(error, status, name)
        told = {"key": stored.statement.key, "stored": stored.outcome, "disputed": stored.disputed}
        return JSONResponse(told | {"label": stored.statement.label, "image_sha256": stored.statement.image_sha256})

    async def livez(self, _: Request) -> Response:
        """Whether the process answers at all."""
        return JSONResponse({"live": True})

    async def readyz(self, _: Request) -> Response:
        """Whether a request would be answered now."""
        ready = self._service.is_ready and not self.is_ending
        told = {"ready": ready} | ({"reason": self._service.trouble} if self._service.trouble and not ready else {})
        return JSONResponse(told, 200 if ready else 503)

    async def health(self, request: Request) -> Response:
        """As readyz, with what is known about workers and the classifier."""
        ready = await self.readyz(request)
        description = {key: value for key, value in self._service.description.items() if key != "labels"}
        return JSONResponse(
            {
                "ready": ready.status_code == 200,
                "ending": self.is_ending,
                "workers": self._service.workers,
                "workers_wanted": self._service.settings.workers,
                "workers_died": self._service.deaths,
                "waiting": self._service.waiting,
                "classifier": description,
            },
            ready.status_code,
        )

    async def numbers(self, _: Request) -> Response:
        """Metrics for Prometheus."""
        seen = self._service.measured
        sizes, seen.sizes = seen.sizes, []
        self.metrics.note_batches(sizes)
        self.metrics.waiting.set(self._service.waiting)
        self.metrics.workers.set(self._service.workers)
        self.metrics.deaths.set(self._service.deaths)
        self.metrics.queue_seconds.set(seen.queue_s)
        self.metrics.answer_seconds.set(seen.answer_s)
        self.metrics.lost.set(0 if self._recorder is None else self._recorder.lost)
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _predicted(self, request: Request, name: str) -> tuple[Response, Outcome, int]:
        if self.is_ending:
            raise OverloadError("the server is ending", retry_after_s=5.0)
        top, started_s = _top(request), time.monotonic()
        images = await images_of(request, self._service.settings)
        description, answers = await self._service.answer(images)
        if self._recorder is not None:
            passed_ms = 1e3 * (time.monotonic() - started_s)
            self._recorder.note(name, images, answers, description, milliseconds=passed_ms)
        for answer in answers:
            self.metrics.images.labels("error" if "error" in answer else "ok").inc()
        body = {
            "request_id": name,
            "bundle_id": description["bundle_id"],
            "predictions": [_told(answer, description["labels"], top) for answer in answers],
        }
        status, outcome = _worst(answers)
        return JSONResponse(body, status), outcome, len(images)

    def _finish(self, name: str, outcome: Outcome, status: int, images: int, started_s: float) -> None:
        seconds = time.monotonic() - started_s
        self.metrics.finish(outcome, seconds)
        self._log(
            {"event": "predict", "request_id": name, "outcome": outcome, "status": status, "images": images}
            | {"ms": round(1e3 * seconds, 2)}
        )


def _request_id(request: Request) -> str:
    """The client's own, where it is a plain one; else a new one."""
    own = request.headers.get(_ID_HEADER, "")
    return own if 0 < len(own) <= _LONGEST_ID and own.isascii() and own.isprintable() else secrets.token_hex(16)


def _top(request: Request) -> int:
    text = request.query_params.get("top", "5")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= TOP):
        raise InputError(f"top is a number from 1 to {TOP}", received=text[:40])
    return int(text)


def _told(answer: dict[str, Any], labels: Sequence[str], top: int) -> dict[str, Any]:
    """An answer with names for classes."""
    if "error" in answer:
        return answer
    likely = [{"label": labels[index], "probability": chance} for index, chance in answer["top"][:top]]
    rest = {key: value for key, value in answer.items() if key not in ("index", "top")}
    return {"label": labels[answer["index"]], **rest, "top": likely}


def _worst(answers: Sequence[dict[str, Any]]) -> tuple[int, Outcome]:
    """The status of a request: that of its image where it is one; 200 where others were answered."""
    failed = [answer for answer in answers if "error" in answer]
    if len(failed) < len(answers) or not failed:
        return 200, "ok"
    return (500, "failed") if any(answer["code"] == CRASHES for answer in failed) else (422, "client_error")


def _status(error: SortalError) -> tuple[int, Outcome]:
    """What a kind of error is in HTTP."""
    if isinstance(error, OverloadError):
        return 503, "rejected"
    if isinstance(error, DeadlineError):
        return (408, "client_error") if "body" in error.what else (504, "expired")
    if isinstance(error, TooLargeError):
        return 413, "client_error"
    return (400, "client_error") if isinstance(error, InputError) else (503, "failed")


def _refusal(error: SortalError, status: int, name: str) -> Response:
    told = {"error": error.what, "received": error.received, "hint": error.hint, "request_id": name}
    headers = {}
    if isinstance(error, OverloadError):
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    if status in (408, 413):
        headers["connection"] = "close"
    return JSONResponse({key: value for key, value in told.items() if value is not None}, status, headers=headers)


def _refused(error: SortalError, name: str) -> tuple[Response, Outcome]:
    """What a client of the Open Inference Protocol is told."""
    if isinstance(error, NotFoundError):
        return _refusal(error, 404, name), "client_error"
    status, outcome = _status(error)
    return _refusal(error, status, name), outcome


async def _not_found(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "there is nothing at this address", "hint": "POST /predict"}, 404)


async def _not_allowed(request: Request, _: Exception) -> Response:
    return JSONResponse({"error": f"{request.method} is not for this address"}, 405)


async def _failed(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "an internal fault; the log of the server says more"}, 500)
