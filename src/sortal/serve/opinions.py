"""What people say, over HTTP: labels of images, and the images that wait for one."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sortal.core.errors import NotFoundError, SortalError
from sortal.serve.answers import ID_HEADER, request_id
from sortal.serve.asked import number
from sortal.serve.intake import parse_json, read_body
from sortal.serve.models import Models
from sortal.serve.recorder import Recorder
from sortal.serve.refusals import refusal, refused, statement_status
from sortal.serve.settings import ServeSettings
from sortal.workspace.review import ReviewItem

MOST_REVIEWED = 1000
"""Items of the queue in one answer."""
_REVIEWED = 50


class Opinions:
    """The routes, where a workspace is served; without one they say so."""

    def __init__(self, models: Models, settings: ServeSettings):
        self._models, self._settings = models, settings

    def routes(self) -> list[Route]:
        """For the application."""
        return [Route("/feedback", self.feedback, methods=["POST"]), Route("/review", self.review)]

    async def feedback(self, request: Request) -> Response:
        """Store a label that somebody gives an image; acknowledged when it is on the disk."""
        name = request_id(request.headers)
        try:
            stored = await self._recorder(request).say(parse_json(await read_body(request, self._settings)))
        except SortalError as error:
            return _named(refusal(error, statement_status(error), name), name)
        told = {"key": stored.statement.key, "stored": stored.outcome, "disputed": stored.disputed}
        said = {"label": stored.statement.label, "image_sha256": stored.statement.image_sha256}
        return _named(JSONResponse(told | said), name)

    async def review(self, request: Request) -> Response:
        """The first images that wait for a person."""
        name = request_id(request.headers)
        try:
            limit = number(request, "limit", default=_REVIEWED, most=MOST_REVIEWED)
            items = await self._recorder(request).review(limit)
        except SortalError as error:
            return _named(refused(error, name)[0], name)
        return _named(JSONResponse({"items": [_told(item) for item in items]}), name)

    def _recorder(self, request: Request) -> Recorder:
        recorder = self._models.find(request.query_params.get("model")).recorder
        if recorder is None:
            raise NotFoundError("labels are kept by a workspace", hint="sortal serve WORKSPACE")
        return recorder


def _told(item: ReviewItem) -> dict[str, Any]:
    event = item.event
    label, probability = event.top[0]
    return {
        "request_id": event.request_id,
        "time": event.time,
        "image_sha256": item.image_sha256,
        "reason": item.reason,
        "label": label,
        "probability": probability,
        "unknown_score": event.unknown_score,
        "said": list(item.said),
    }


def _named(response: Response, name: str) -> Response:
    response.headers[ID_HEADER] = name
    return response
