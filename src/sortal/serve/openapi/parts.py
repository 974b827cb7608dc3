"""What operations are put together from: answers, refusals, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sortal.serve.openapi.schemas import TEXT, Schema, named

Operation = dict[str, Any]

_MEANINGS = {
    400: "the request cannot be read",
    401: "no valid API key",
    403: "not allowed with this key, or from this page",
    404: "no such model, or nothing here",
    408: "the body came too slowly",
    409: "contradicts what is stored",
    413: "too large",
    422: "the content is not valid",
    429: "too many requests with this key",
    500: "the processes that should answer died",
    503: "not ready, ending, or too much is waiting",
    504: "not answered in time",
    507: "the disk refuses",
}
BODY = (400, 408, 413)
"""What can be wrong with any body."""
GATE = (401, 403, 429)
"""What the gate before a route may say."""
_LATER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def operation(
    summary: str,
    *,
    tag: str,
    responses: dict[str, Any],
    parameters: Sequence[dict[str, Any]] = (),
    body: dict[str, Any] | None = None,
    about: str = "",
    open_to_all: bool = False,
) -> Operation:
    """One method of one address. One that is not `open_to_all` may be refused at the gate."""
    found: Operation = {"summary": summary, "tags": [tag]}
    found |= {"description": about} if about else {}
    found |= {"parameters": list(parameters)} if parameters else {}
    found |= {"requestBody": body} if body else {}
    found |= {"security": []} if open_to_all else {}
    found["responses"] = responses | ({} if open_to_all else refusals(*GATE))
    return found


def answer(text: str, schema: Schema) -> dict[str, Any]:
    """A response in JSON."""
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def other(text: str, kind: str) -> dict[str, Any]:
    """A response of another type."""
    return {"description": text, "content": {kind: {}}}


def refusals(*statuses: int) -> dict[str, Any]:
    """Responses that say what is wrong."""
    found = {str(status): answer(_MEANINGS[status], named("Error")) for status in statuses}
    for status in {"429", "503"} & set(found):
        found[status]["headers"] = _LATER
    return found


def here(name: str) -> dict[str, Any]:
    """A part of the address."""
    return {"name": name, "in": "path", "required": True, "schema": TEXT}


def query(name: str, schema: Schema, text: str) -> dict[str, Any]:
    """What may stand behind the question mark."""
    return {"name": name, "in": "query", "description": text, "schema": schema}
