"""The description is what the server does: every route is in it, and every answer has the shape it states."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from servers import Server, start_server
from sortal.core.bundle import open_bundle
from sortal.serve.account import Account
from sortal.serve.app import Front
from sortal.serve.metrics import Metrics
from sortal.serve.models import Models
from sortal.serve.oip.dialogue import Dialogue
from sortal.serve.openapi.description import description
from sortal.serve.settings import ServeSettings
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace

_PARTS = {"/page/{name}", "/v2/"}
"""Files of pages, and a second spelling of an address that is described."""


@pytest.fixture(scope="module")
def line(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("line")
    with create_workspace(folder / "line4") as workspace:
        promote(workspace, open_bundle(bundles[0]))
        server = start_server(workspace.path, folder / "log", "workers=1", "body_mb=1", "images=4")
        try:
            server.wait_for("ready")
            yield server
        finally:
            server.end()


@pytest.mark.parametrize("changes", [{}, {"page": False, "explain": False}, {"metrics_port": 0}])
def test_every_route_is_described_and_nothing_else(changes: dict[str, Any]) -> None:
    settings = ServeSettings(**changes)
    models, metrics = Models([]), Metrics()
    front = Front(models, Account(metrics, lambda event: None), Dialogue(models, settings), settings)
    routes = {
        (route.path, method.lower())
        for route in front.app().routes
        if isinstance(route, Route) and route.path not in _PARTS
        for method in (route.methods or set()) - {"HEAD"}
    }
    told = description(settings)
    validate(told)
    assert {(path, method) for path, methods in told["paths"].items() for method in methods} == routes


class Described:
    """A server whose answers are held against its own description."""

    def __init__(self, server: Server):
        self.server = server
        self.told = json.loads(server.ask("GET", "/openapi.json")[2])
        self.seen: set[tuple[str, str, int]] = set()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, found, text = self.server.ask(method, path, body, named)
        template = self._template(path.partition("?")[0])
        responses = self.told["paths"][template][method.lower()]["responses"]
        assert str(status) in responses, (method, path, status, text)
        kind = found["content-type"].partition(";")[0]
        content = responses[str(status)]["content"]
        assert kind in content, (method, path, status, kind)
        self.seen.add((template, method.lower(), status))
        if kind != "application/json":
            return status, text
        answer, schema = json.loads(text), content[kind].get("schema", {})
        jsonschema.Draft202012Validator({**schema, "components": self.told["components"]}).validate(answer)
        return status, answer

    def _template(self, path: str) -> str:
        if path in self.told["paths"]:
            return path
        return next(one for one in self.told["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", one), path))


def test_every_answer_has_the_shape_that_is_stated(line: Server, colors: dict[str, bytes]) -> None:
    server = Described(line)
    text = base64.b64encode(colors["red"]).decode()
    said = {"label": "red", "request_id": "part-1", "key": "k1"}
    pixels = np.zeros((1, 16, 16, 3), np.uint8).tolist()
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 16, 16, 3], "data": pixels}
    asked: list[tuple[int, str, str, Any]] = [
        (200, "POST", "/predict", colors["red"]),
        (200, "POST", "/predict?probabilities=true&top=2", colors["red"]),
        (200, "POST", "/predict", {"images": [text, "aGVsbG8="]}),
        (200, "POST", "/models/line4/predict", colors["red"]),
        (404, "POST", "/models/nobody/predict", colors["red"]),
        (400, "POST", "/predict?top=x", colors["red"]),
        (404, "POST", "/predict?model=nobody", colors["red"]),
        (413, "POST", "/predict", b"x" * 1_000_001),
        (413, "POST", "/predict", {"images": [text] * 5}),
        (422, "POST", "/predict", b"hello"),
        (200, "POST", "/explain?overlay=true", colors["red"]),
        (200, "POST", "/explain?format=png", colors["red"]),
        (400, "POST", "/explain?class=violet", colors["red"]),
        (404, "POST", "/explain?model=nobody", colors["red"]),
        (413, "POST", "/explain", b"x" * 1_000_001),
        (422, "POST", "/explain", b"hello"),
        (200, "POST", "/feedback", said),
        (200, "POST", "/feedback", said),
        (422, "POST", "/feedback", b"{"),
        (404, "POST", "/feedback", {"label": "red", "request_id": "nobody"}),
        (409, "POST", "/feedback", {**said, "label": "blue"}),
        (413, "POST", "/feedback", b"x" * 1_000_001),
        (422, "POST", "/feedback", {"label": "violet", "request_id": "part-1"}),
        (200, "POST", "/feedback", {"label": "blue", "request_id": "part-1"}),
        (200, "GET", "/review", None),
        (400, "GET", "/review?limit=0", None),
        (404, "GET", "/review?model=nobody", None),
        (200, "GET", "/model", None),
        (404, "GET", "/model?model=nobody", None),
        *[
            (200, "GET", path, None)
            for path in ("/livez", "/readyz", "/health", "/metrics", "/", "/docs", "/openapi.json")
        ],
        *[(200, "GET", f"/v2{path}", None) for path in ("", "/health/live", "/health/ready", "/models/stats")],
        *[(200, "GET", f"/v2/models/line4{path}", None) for path in ("", "/ready", "/config", "/stats")],
        *[(404, "GET", f"/v2/models/nobody{path}", None) for path in ("", "/ready", "/config", "/stats")],
        (200, "GET", "/v2/models/line4/versions/1", None),
        (404, "GET", "/v2/models/line4/versions/2/stats", None),
        (200, "POST", "/v2/repository/index", {}),
        (400, "POST", "/v2/repository/index", b"{"),
        (501, "POST", "/v2/repository/models/line4/load", {}),
        (200, "POST", "/v2/models/line4/infer", {"id": "a", "inputs": [tensor]}),
        (200, "POST", "/v2/models/line4/infer", {"inputs": [tensor], "outputs": [{"name": "answer"}]}),
        (400, "POST", "/v2/models/line4/infer", {"inputs": []}),
        (404, "POST", "/v2/models/nobody/infer", {"inputs": [tensor]}),
        (413, "POST", "/v2/models/line4/infer", b"x" * 1_000_001),
    ]
    assert server.ask("POST", "/predict", colors["red"], x_request_id="part-1")[0] == 200
    assert server.ask("POST", "/predict", colors["green"])[1]["predictions"][0]["index"] == 1
    for status, method, path, body in asked:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        kind = {"content_type": "application/json"} if isinstance(body, dict) else {}
        assert server.ask(method, path, data, **kind)[0] == status, (method, path)
    [item] = server.ask("GET", "/review")[1]["items"]
    assert (item["reason"], item["label"], item["said"]) == ("disputed", "red", ["red", "blue"])
    described = {
        (path, method)
        for path, methods in server.told["paths"].items()
        for method in methods
        if "/versions/" not in path and not path.endswith("unload")
    }
    assert described <= {(path, method) for path, method, _ in server.seen}


def test_without_a_workspace_nothing_waits_for_a_person(shared: Server) -> None:
    server = Described(shared)
    assert server.ask("GET", "/review")[0] == 404
    assert server.ask("POST", "/feedback", b'{"label": "red"}')[0] == 404
    assert server.ask("GET", "/model")[1]["feedback"] is False
