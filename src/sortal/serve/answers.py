"""How answers to images are told, whatever way the request came."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from starlette.responses import Response

from sortal.serve.account import Call
from sortal.serve.batcher import FAILURES
from sortal.serve.guard.keys import masked
from sortal.serve.metrics import Outcome

ID_HEADER = "x-request-id"
LONGEST_ID = 128
KEY_HEADER = "x-routing-key"


def request_id(headers: Mapping[str, str]) -> str:
    """The client's own, where it is a plain one; else a new one."""
    own = headers.get(ID_HEADER, "")
    return own if is_plain_id(own) else secrets.token_hex(16)


def routing_key(headers: Mapping[str, str]) -> str:
    """What keeps a client with a canary or away from it; empty where it says nothing plain."""
    own = headers.get(KEY_HEADER, "")
    return own if is_plain_id(own) else ""


def signed(response: Response, call: Call) -> Response:
    """The answer to a call, with its id and what took how long."""
    response.headers[ID_HEADER] = call.name
    response.headers["server-timing"] = call.timing
    return response


def is_plain_id(own: str) -> bool:
    """Whether a request may be called so; a key that was sent in the wrong place is no name."""
    return 0 < len(own) <= LONGEST_ID and own.isascii() and own.isprintable() and masked(own) == own


def told(answer: dict[str, Any], labels: Sequence[str], top: int, *, full: bool = False) -> dict[str, Any]:
    """An answer with names for classes; with `full`, the probability of every class in their order."""
    if "error" in answer:
        return {"code": answer["code"], "error": answer["error"]}
    likely = [{"label": labels[index], "probability": chance} for index, chance in answer["top"][:top]]
    rest = {key: value for key, value in answer.items() if key not in ("index", "top", "probabilities")}
    found = {"label": labels[answer["index"]], **rest, "top": likely}
    return found | {"probabilities": np.frombuffer(answer["probabilities"], np.float32).tolist()} if full else found


def worst(answers: Sequence[dict[str, Any]]) -> tuple[int, Outcome]:
    """The status of a request: that of its image where it is one; 200 where others were answered."""
    failed = [answer for answer in answers if "error" in answer]
    if len(failed) < len(answers) or not failed:
        return 200, "ok"
    return (500, "failed") if any(answer["code"] in FAILURES for answer in failed) else (422, "client_error")
