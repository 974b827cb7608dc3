"""The description itself, OpenAPI 3.1."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from sortal.serve.openapi import protocol
from sortal.serve.openapi.parts import BODY, Operation, answer, operation, other, query, refusals
from sortal.serve.openapi.schemas import SCHEMAS, named
from sortal.serve.opinions import MOST_REVIEWED
from sortal.serve.service import TOP
from sortal.serve.settings import ServeSettings

_MODEL = query("model", {"type": "string"}, "Which model, where several are served; the first one by default.")
_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "What the request is called; a new name where it is not 1 to 128 printable ASCII characters.",
    "schema": {"type": "string"},
}
_KEY = {
    "name": "X-Routing-Key",
    "in": "header",
    "description": "Requests with one key are all answered by the canary, where there is one, or none of them.",
    "schema": {"type": "string"},
}
_NAME = {"name": "name", "in": "path", "required": True, "description": "Which model.", "schema": {"type": "string"}}
_FILES = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "additionalProperties": True,
}
_IMAGES = {
    "required": True,
    "description": "One encoded image as it is, a form with files, or JSON with base64.",
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {"schema": _FILES},
        "application/json": {"schema": named("Images")},
    },
}
_SAID = {"required": True, "content": {"application/json": {"schema": named("Statement")}}}


def description(settings: ServeSettings) -> dict[str, Any]:
    """What a server with these settings offers."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sortal serve",
            "version": version("sortal"),
            "summary": "Answers of a classifier of images.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}, {"key": []}],
        "paths": _paths(settings),
        "components": {
            "schemas": SCHEMAS | protocol.SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _paths(settings: ServeSettings) -> dict[str, dict[str, Operation]]:
    found = {"/predict": {"post": _predict(_MODEL)}, "/models/{name}/predict": {"post": _predict(_NAME)}}
    if settings.explain:
        found["/explain"] = {"post": _explain()}
    found |= {
        "/feedback": {"post": _feedback()},
        "/review": {"get": _review()},
        "/model": {"get": _model()},
        "/livez": {"get": _state("Whether the process answers", "Live", open_to_all=True)},
        "/readyz": {"get": _state("Whether a request would be answered now", "Ready", 503, open_to_all=True)},
        "/health": {"get": _state("Workers, queue and classifier", "Health", 503)},
        "/openapi.json": {"get": _plain("This description", "application/json")},
        "/docs": {"get": _plain("This description, to be read", "text/html")},
    }
    if settings.metrics_port is None:
        text = other("numbers", "text/plain")
        found["/metrics"] = {"get": operation("Numbers for Prometheus", tag="state", responses={"200": text})}
    if settings.page:
        found["/"] = {"get": _plain("A page to try it", "text/html")}
    return found | protocol.protocol_paths()


def _predict(model: dict[str, Any]) -> Operation:
    return operation(
        "Answer images",
        tag="answers",
        about="A request of one image that cannot be read is 422; of several, each says so in its place.",
        parameters=[
            query("top", {"type": "integer", "minimum": 1, "maximum": TOP, "default": 5}, "Classes of an answer."),
            query("probabilities", {"type": "boolean", "default": False}, "Tell those of every class, and label_set."),
            model,
            _ID,
            _KEY,
        ],
        body=_IMAGES,
        responses={
            "200": answer("the answers, in the order of the images", named("Predictions")),
            **refusals(*BODY, 404, 503, 504),
            "422": answer("the image cannot be read", named("Predictions")),
            "500": answer("the processes that should answer the image died", _either("Predictions")),
        },
    )


def _explain() -> Operation:
    good = answer("the answer and its maps", named("Explanation"))
    good["content"]["image/png"] = {}
    return operation(
        "Explain the answer to one image",
        tag="answers",
        about="Runs the network some hundred times, in a process of its own; answers to images do not wait for it.",
        parameters=[
            query("class", {"type": "string"}, "What speaks for this class; for the answer by default."),
            query("format", {"enum": ["json", "png"], "default": "json"}, "png is the image with one map over it."),
            query("map", {"type": "string"}, "Which map, for png; by default the first that passed its checks."),
            query("overlay", {"type": "boolean", "default": False}, "Put a picture of each map into the JSON."),
            _MODEL,
            _ID,
        ],
        body=_IMAGES,
        responses={"200": good, **refusals(*BODY, 404, 422, 500, 503, 504)},
    )


def _feedback() -> Operation:
    return operation(
        "Say what an image shows",
        tag="feedback",
        about="Acknowledged when it is on the disk. Where no workspace is served, 404.",
        parameters=[_MODEL],
        body=_SAID,
        responses={
            "200": answer("stored", named("Acknowledged")),
            **refusals(*BODY, 404, 409, 422, 503, 507),
        },
    )


def _review() -> Operation:
    most = {"type": "integer", "minimum": 1, "maximum": MOST_REVIEWED, "default": 50}
    return operation(
        "Images that wait for a person",
        tag="feedback",
        about="In dispute, corrected by one person and not confirmed by another, or doubtful and not yet judged.",
        parameters=[query("limit", most, "Items at most."), _MODEL],
        responses={"200": answer("the queue", named("Review")), **refusals(400, 404, 503, 507)},
    )


def _model() -> Operation:
    return operation(
        "The classifier, its classes and the limits of a request",
        tag="state",
        parameters=[_MODEL],
        responses={"200": answer("the model", named("Model")), **refusals(404, 503)},
    )


def _state(summary: str, schema: str, *also: int, open_to_all: bool = False) -> Operation:
    responses = {str(status): answer(summary, named(schema)) for status in (200, *also)}
    return operation(summary, tag="state", responses=responses, open_to_all=open_to_all)


def _plain(summary: str, kind: str) -> Operation:
    return operation(summary, tag="this page", responses={"200": other(summary, kind)}, open_to_all=True)


def _either(schema: str) -> dict[str, Any]:
    return {"anyOf": [named(schema), named("Error")]}
