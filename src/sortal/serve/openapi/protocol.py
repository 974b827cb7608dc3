"""The addresses of the Open Inference Protocol, as `description` puts them together."""

from __future__ import annotations

from typing import Any

from sortal.serve.openapi.parts import BODY, Operation, answer, here, operation, refusals
from sortal.serve.openapi.schemas import FLAG, TEXT, TEXTS, Schema, named, several, thing

_SHAPE = several({"type": "integer"})
_TENSOR = thing({"name": TEXT, "datatype": TEXT, "shape": _SHAPE}, more=True)
_ASKED: Schema = {"description": 'With {"ready": true}, those that answer; with anything else, all.'}
_READY = thing({"name": TEXT, "ready": FLAG})

SCHEMAS: dict[str, Schema] = {
    "ProtocolServer": thing({"name": TEXT, "version": TEXT, "extensions": TEXTS}),
    "ProtocolModel": thing(
        {"name": TEXT, "versions": TEXTS, "platform": TEXT, "inputs": several(_TENSOR), "outputs": several(_TENSOR)},
        more=True,
    ),
    "ProtocolStatistics": thing({"model_stats": several(thing({"name": TEXT, "version": TEXT}, more=True))}),
    "ProtocolIndex": several(thing({"name": TEXT, "version": TEXT, "state": TEXT, "reason": TEXT}, more=True)),
    "InferRequest": thing(
        {"id": TEXT, "inputs": several(_TENSOR), "outputs": several(thing({"name": TEXT}, more=True))},
        optional=("id", "outputs"),
        more=True,
    ),
    "InferResponse": thing(
        {"model_name": TEXT, "model_version": TEXT, "id": TEXT, "outputs": several(_TENSOR)},
        optional=("id",),
        more=True,
    ),
}

_TAG = "Open Inference Protocol"
_BINARY = {"application/octet-stream": {"schema": {"description": "JSON, then the tensors as they lie in memory."}}}


def protocol_paths() -> dict[str, dict[str, Operation]]:
    """By address and method."""
    found = {
        "/v2": {"get": _get("The server", named("ProtocolServer"))},
        "/v2/health/live": {"get": _get("Whether the process answers", named("Live"), open_to_all=True)},
        "/v2/health/ready": {"get": _get("Whether requests are answered", named("Ready"), 503, open_to_all=True)},
        "/v2/models/stats": {"get": _get("Statistics of all models", named("ProtocolStatistics"))},
        "/v2/repository/index": {"post": _index()},
    }
    for prefix, variables in (
        ("/v2/models/{name}", ("name",)),
        ("/v2/models/{name}/versions/{version}", ("name", "version")),
    ):
        where = [here(variable) for variable in variables]
        found[prefix] = {"get": _get("A model", named("ProtocolModel"), parameters=where)}
        found[f"{prefix}/ready"] = {"get": _get("Whether a model answers", _READY, parameters=where)}
        found[f"{prefix}/config"] = {
            "get": _get("A model as Triton describes it", {"type": "object"}, parameters=where)
        }
        found[f"{prefix}/stats"] = {"get": _get("Its statistics", named("ProtocolStatistics"), parameters=where)}
        found[f"{prefix}/infer"] = {"post": _infer(where)}
    for what in ("load", "unload"):
        found[f"/v2/repository/models/{{name}}/{what}"] = {
            "post": operation(
                "Not offered: files are not loaded by clients",
                tag=_TAG,
                parameters=[here("name")],
                responses={"501": answer("not offered", named("Error"))},
            )
        }
    return found


def _get(
    summary: str,
    schema: Schema,
    *also: int,
    parameters: list[dict[str, Any]] | None = None,
    open_to_all: bool = False,
) -> Operation:
    responses = {"200": answer(summary, schema)} | {str(status): answer("not ready", schema) for status in also}
    if parameters:
        responses |= refusals(404, 503)
    return operation(summary, tag=_TAG, parameters=parameters or [], responses=responses, open_to_all=open_to_all)


def _index() -> Operation:
    body = {"content": {"application/json": {"schema": _ASKED}}}
    responses = {"200": answer("the models", named("ProtocolIndex"))} | refusals(*BODY)
    return operation("The models of the server", tag=_TAG, body=body, responses=responses)


def _infer(where: list[dict[str, Any]]) -> Operation:
    good = answer("the outputs", named("InferResponse"))
    good["content"] |= _BINARY
    return operation(
        "Answer pixels of the network's size",
        tag=_TAG,
        parameters=where,
        body={"required": True, "content": {"application/json": {"schema": named("InferRequest")}, **_BINARY}},
        responses={"200": good} | refusals(404, *BODY, 500, 503, 504),
    )
