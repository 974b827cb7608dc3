"""HTTP: answers to images, health that tells the truth about workers, metrics. Every error is JSON and says what to do.

POST /predict?top=5    an image as body, a form with files, or JSON with base64; one of several: /models/NAME/predict
POST /explain          why one image is answered so
POST /feedback         what an image really shows, where a workspace is served
GET  /review           the images that wait for a person
GET  /model            the classifier, its classes and the limits of a request
GET  /livez /readyz /health /metrics
GET  / /docs /openapi.json
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sortal.core.errors import OverloadError, SortalError
from sortal.serve.account import Account, Call
from sortal.serve.answers import request_id, routing_key, signed, told, worst
from sortal.serve.asked import model_name, number, switch
from sortal.serve.explaining.routes import Explaining
from sortal.serve.guard.caller import STRANGER
from sortal.serve.intake import images_of
from sortal.serve.metrics import Outcome
from sortal.serve.models import Models
from sortal.serve.oip.dialogue import ENDING_S, Dialogue
from sortal.serve.oip.routes import Protocol
from sortal.serve.openapi.routes import describing_routes
from sortal.serve.opinions import Opinions
from sortal.serve.page.routes import page_routes
from sortal.serve.parting import Parting
from sortal.serve.refusals import failed, not_allowed, not_found, refused
from sortal.serve.service import TOP
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.trace_parent import HEADER as TRACE


class Front:
    """The routes of one server over its models."""

    def __init__(self, models: Models, account: Account, dialogue: Dialogue, settings: ServeSettings):
        self._models, self._account, self._dialogue, self._settings = models, account, dialogue, settings
        self._explaining = Explaining(models, settings)

    @property
    def is_ending(self) -> bool:
        """Whether no new request is taken."""
        return self._dialogue.is_ending

    def app(self) -> Starlette:
        """The ASGI application."""
        protocol = Protocol(self._dialogue, self._account, self._settings)
        routes = [
            Route("/predict", self.predict, methods=["POST"]),
            Route("/models/{name}/predict", self.predict, methods=["POST"]),
            Route("/model", self.model),
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/health", self.health),
            *([] if self._settings.metrics_port is not None else self._metrics_routes()),
            *Opinions(self._models, self._settings).routes(),
            *self._explaining.routes(),
            *describing_routes(self._settings),
            *page_routes(self._settings),
            *protocol.routes(),
        ]
        handlers = {404: not_found, 405: not_allowed, 500: failed}
        parting = Middleware(Parting, is_ending=lambda: self.is_ending)
        return Starlette(routes=routes, exception_handlers=handlers, middleware=[parting])

    async def stop(self) -> None:
        """End what was started for requests."""
        await self._explaining.stop()

    def metrics_app(self) -> Starlette:
        """The ASGI application of a port for metrics alone."""
        handlers = {404: not_found, 405: not_allowed, 500: failed}
        return Starlette(routes=self._metrics_routes(), exception_handlers=handlers)

    def _metrics_routes(self) -> list[Route]:
        return [Route("/metrics", self.numbers)]

    async def predict(self, request: Request) -> Response:
        """Answer the images of a request."""
        call = self._account.begin("http", request_id(request.headers), trace_parent=request.headers.get(TRACE, ""))
        try:
            response, outcome = await self._predicted(request, call)
        except asyncio.CancelledError:
            self._account.finish(call, "cancelled", 499)
            raise
        except SortalError as error:
            response, outcome = refused(error, call.name)
        except Exception:
            self._account.finish(call, "failed", 500)
            raise
        self._account.finish(call, outcome, response.status_code)
        return signed(response, call)

    async def model(self, request: Request) -> Response:
        """The classifier, its classes, and what one request may bring."""
        try:
            served = self._models.find(request.query_params.get("model"))
            told = {key: value for key, value in served.description.items() if key != "labels"}
        except SortalError as error:
            return refused(error, request_id(request.headers))[0]
        limits = {
            "images": min(self._settings.images, served.service.settings.queue),
            "body_mb": self._settings.body_mb,
            "top": TOP,
        }
        offered = {"feedback": served.recorder is not None, "explain": self._settings.explain}
        return JSONResponse({"name": served.name, **told, "limits": limits, **offered})

    async def livez(self, _: Request) -> Response:
        """Whether the process answers at all."""
        return JSONResponse({"live": True})

    async def readyz(self, _: Request) -> Response:
        """Whether a request would be answered now."""
        ready = self._models.is_ready and not self.is_ending
        told: dict[str, Any] = {"ready": ready}
        if not ready and not STRANGER.get():
            told |= {"not_ready": [one.name for one in self._models if not one.is_ready]}
            told |= {"reason": reason} if (reason := self._models.trouble) else {}
        return JSONResponse(told, 200 if ready else 503)

    async def health(self, request: Request) -> Response:
        """As readyz, with what is known about workers and the classifier."""
        ready = await self.readyz(request)
        service = self._models.find().service
        return JSONResponse(
            {
                "ready": ready.status_code == 200,
                "ending": self.is_ending,
                "workers": service.workers,
                "workers_wanted": service.settings.workers,
                "workers_died": service.deaths,
                "waiting": service.waiting,
                "classifier": service.in_short,
                "models": {one.name: one.health() for one in self._models},
            },
            ready.status_code,
        )

    async def numbers(self, _: Request) -> Response:
        """Metrics for Prometheus."""
        return Response(self._account.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _predicted(self, request: Request, call: Call) -> tuple[Response, Outcome]:
        if self.is_ending:
            raise OverloadError("the server is ending", retry_after_s=ENDING_S)
        top, full = number(request, "top", default=5, most=TOP), switch(request, "probabilities")
        served = self._models.find(model_name(request))
        call.key = routing_key(request.headers)
        served.refuse_overload()
        images = await images_of(request, self._settings)
        answered = await served.answer(call, images)
        labels = answered.description["labels"]
        body = {
            "request_id": call.name,
            "bundle_id": answered.description["bundle_id"],
            "role": answered.role,
            "predictions": [_numbered(answer, told(answer, labels, top, full=full)) for answer in answered.answers],
        } | ({"label_set": answered.description["label_set"]} if full else {})
        status, outcome = worst(answered.answers)
        return JSONResponse(body, status), outcome


def _numbered(answer: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """With the index of the class."""
    return {"index": answer["index"], **found} if "index" in answer else found
