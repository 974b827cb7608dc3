"""Who may ask what: one table for HTTP and one for gRPC. What is not in it is refused to everybody, also to admins.

    livez, readyz, v2/health        anybody: whoever looks after the process has no key
    the page and its description    anybody: a browser brings no key when it opens a page, and no secret is in it
    health, metadata, statistics    any key
    predict, explain, infer         infer
    feedback                        feedback
    metrics                         metrics

`admin` may do all of it. Without a file of keys nothing of this is asked, see `gate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from sortal.serve.guard.keys import Role

Allowed = frozenset[Role] | None
"""Roles that may ask, beside `admin`; None is anybody, with a key or without."""

ANYBODY: Final[Allowed] = None
ANY_KEY: Final[Allowed] = frozenset({"infer", "feedback", "metrics"})
INFER: Final[Allowed] = frozenset({"infer"})
FEEDBACK: Final[Allowed] = frozenset({"feedback"})
METRICS: Final[Allowed] = frozenset({"metrics"})
ADMIN: Final[Allowed] = frozenset()

_MODELS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")

ROUTES: Final[dict[tuple[str, str], Allowed]] = {
    ("GET", "/livez"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/v2/health/live"): ANYBODY,
    ("GET", "/v2/health/ready"): ANYBODY,
    ("GET", "/health"): ANY_KEY,
    ("GET", "/model"): ANY_KEY,
    ("GET", "/metrics"): METRICS,
    ("GET", "/"): ANYBODY,
    ("GET", "/page/{name}"): ANYBODY,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/openapi.json"): ANYBODY,
    ("POST", "/predict"): INFER,
    ("POST", "/explain"): INFER,
    ("POST", "/models/{name}/predict"): INFER,
    ("POST", "/feedback"): FEEDBACK,
    ("GET", "/review"): FEEDBACK,
    ("GET", "/v2"): ANY_KEY,
    ("GET", "/v2/"): ANY_KEY,
    ("GET", "/v2/models/stats"): ANY_KEY,
    ("POST", "/v2/repository/index"): ANY_KEY,
    ("POST", "/v2/repository/models/{name}/load"): ADMIN,
    ("POST", "/v2/repository/models/{name}/unload"): ADMIN,
    **{("GET", path): ANY_KEY for path in _MODELS},
    **{("GET", f"{path}/{what}"): ANY_KEY for path in _MODELS for what in ("ready", "config", "stats")},
    **{("POST", f"{path}/infer"): INFER for path in _MODELS},
}
"""(method, path as the route has it): who may ask. HEAD is as GET."""

_INFERENCE, _HEALTH = "/inference.GRPCInferenceService", "/grpc.health.v1.Health"
_CLASSIFIER = "/sortal.v1.Classifier"

CALLS: Final[dict[str, Allowed]] = {
    f"{_HEALTH}/Check": ANYBODY,
    f"{_HEALTH}/Watch": ANYBODY,
    f"{_HEALTH}/List": ANY_KEY,
    f"{_CLASSIFIER}/Classify": INFER,
    f"{_INFERENCE}/ServerLive": ANYBODY,
    f"{_INFERENCE}/ServerReady": ANYBODY,
    f"{_INFERENCE}/ModelReady": ANY_KEY,
    f"{_INFERENCE}/ServerMetadata": ANY_KEY,
    f"{_INFERENCE}/ModelMetadata": ANY_KEY,
    f"{_INFERENCE}/ModelConfig": ANY_KEY,
    f"{_INFERENCE}/ModelStatistics": ANY_KEY,
    f"{_INFERENCE}/RepositoryIndex": ANY_KEY,
    f"{_INFERENCE}/ModelInfer": INFER,
    f"{_INFERENCE}/ModelStreamInfer": INFER,
}
"""The full name of a call of gRPC: who may make it."""


class NotListedError(LookupError):
    """A route that the table does not know: nobody may ask it."""


def allowed_for(scope: Scope, routes: Iterable[BaseRoute]) -> tuple[Allowed, str]:
    """Who may ask this, and the route's path without what a client chose; empty where no route has the address.

    An address or method that is none may be asked with any key, and gets its 404 or 405 then. Raises NotListedError.
    """
    for route in routes:
        if route.matches(scope)[0] is Match.FULL:
            path = getattr(route, "path", "")
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            if (method, path) not in ROUTES:
                raise NotListedError(path)
            return ROUTES[method, path], path
    return ANY_KEY, ""
