"""Who may ask what: every route and call that there is, with every kind of key, at a server that asks for one."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from grpc_health.v1 import health_pb2
from starlette.routing import BaseRoute

from rpc import Rpc
from servers import Server, start_server
from sortal.serve.account import Account
from sortal.serve.app import Front
from sortal.serve.guard.access import CALLS, ROUTES
from sortal.serve.guard.keys import PREFIX, add_key
from sortal.serve.metrics import Metrics
from sortal.serve.models import Models, Served
from sortal.serve.oip.dialogue import Dialogue
from sortal.serve.service import Service
from sortal.serve.settings import ServeSettings

REPOSITORY = Path(__file__).parents[2]
PAGES = {"/", "/page/{name}", "/docs", "/openapi.json"}
OPEN = {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"} | PAGES
NEEDS = {
    "/predict": "infer",
    "/models/{name}/predict": "infer",
    "/explain": "infer",
    "/v2/models/{name}/infer": "infer",
    "/v2/models/{name}/versions/{version}/infer": "infer",
    "/feedback": "feedback",
    "/review": "feedback",
    "/metrics": "metrics",
    "/v2/repository/models/{name}/load": "admin",
    "/v2/repository/models/{name}/unload": "admin",
}
"""What is not here and not open may be asked with any key."""
ROLES = ("infer", "feedback", "metrics", "admin")


@dataclass(frozen=True, kw_only=True)
class Guarded:
    server: Server
    keys: dict[str, str]
    """By role, and `expired`, `wrong`."""
    file: Path


@pytest.fixture(scope="module")
def guarded(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "keys.yaml"
    keys = {role: add_key(file, role, (role,)) for role in ROLES}
    keys["expired"] = add_key(file, "expired", ("admin",), expires="1d")
    found = yaml.safe_load(file.read_text())
    found["keys"][-1]["expires"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    file.write_text(yaml.safe_dump(found))
    server = start_server(bundles[0], folder / "log", "workers=1", "--auth", str(file))
    server.key = keys["admin"]
    try:
        server.wait_for("ready")
        yield Guarded(server=server, keys=keys | {"wrong": PREFIX + "x" * 43}, file=file)
    finally:
        server.end()


def routes(bundle: Path) -> list[tuple[str, str]]:
    """(method, path) of everything that the application answers."""
    settings = ServeSettings(workers=1)
    metrics = Metrics()
    models = Models([Served("one", Service(bundle, settings, metrics.of("one")))])
    app = Front(models, Account(metrics, lambda _: None), Dialogue(models, settings), settings).app()
    return [(method, path) for route in app.routes for method, path in _named(route)]


def _named(route: BaseRoute) -> list[tuple[str, str]]:
    methods = getattr(route, "methods", None) or {"GET"}  # a mounted folder has none
    return [(method, getattr(route, "path", "")) for method in methods if method != "HEAD"]


def _may(path: str, role: str) -> bool:
    return path in OPEN or role == "admin" or NEEDS.get(path, role) == role


def test_the_table_knows_every_route_and_no_other(bundles: tuple[Path, Path]) -> None:
    assert set(routes(bundles[0])) == set(ROUTES)


def test_every_route_with_every_key(guarded: Guarded, bundles: tuple[Path, Path]) -> None:
    for method, path in routes(bundles[0]):
        place = path.replace("{name}", "one").replace("{version}", "1")
        for asked in (method, "HEAD") if method == "GET" else (method,):
            for kind, key in guarded.keys.items():
                status, _, body = guarded.server.ask(asked, place, b"", {"X-API-Key": key})
                if kind in ROLES:
                    assert (status in (401, 403, 429)) is not _may(path, kind), (asked, place, kind, status)
                else:
                    assert (status in (401, 429)) is (path not in OPEN), (asked, place, kind, status)
                if asked != "HEAD" and status >= 400 and path != "/readyz":
                    assert json.loads(body)["error"]
            guarded.server.key = ""
            status, headers, _ = guarded.server.ask(asked, place, b"")
            guarded.server.key = guarded.keys["admin"]
            assert (status == 401) is (path not in OPEN), (asked, place)
            assert ("www-authenticate" in headers) is (status == 401)
    guarded.server.account()


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "POST", "GET"])
def test_other_methods_and_addresses_need_a_key_and_are_then_told(guarded: Guarded, method: str) -> None:
    for path in ("/predict", "/livez", "/metrics", "/v2/models/stats", "/nothing", "/livez/"):
        if (method, path) in ROUTES:
            continue
        for key, statuses in (("none", {401}), ("feedback", {404, 405})):
            headers = {"X-API-Key": guarded.keys.get(key, "")}
            status, _, body = guarded.server.ask(method, path, b"", headers)
            assert status in statuses, (method, path)
            assert json.loads(body)["error"]


def test_every_call_of_grpc_with_every_key(guarded: Guarded) -> None:
    rpc = Rpc(guarded.server.wait_for("listening")["grpc"])
    needs = {"ModelInfer": "infer", "ModelStreamInfer": "infer", "Classify": "infer"}
    try:
        for name in CALLS:
            service, _, method = name.removeprefix("/").partition("/")
            is_open = method in ("ServerLive", "ServerReady", "Check", "Watch")
            for kind, key in {**guarded.keys, "none": ""}.items():
                cut = 0.5 if method == "Watch" else None
                metadata = {"authorization": f"Bearer {key}"} if key else {}
                reply = rpc.ask(service, method, b"", metadata=metadata, cancel_s=cut)
                if is_open:
                    assert reply.code in ("OK", "CANCELLED"), (name, kind, reply)
                elif kind not in ROLES:
                    assert reply.code in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED"), (name, kind, reply)
                else:
                    may = kind in ("admin", needs.get(method, kind))
                    assert (reply.code == "PERMISSION_DENIED") is not may, (name, kind, reply)
                    assert reply.code not in ("UNAUTHENTICATED", "INTERNAL", "UNKNOWN"), (name, kind, reply)
    finally:
        rpc.close()
    guarded.server.account()


def test_a_call_that_is_refused_at_the_gate_is_no_request_and_strangers_learn_no_names(guarded: Guarded) -> None:
    rpc = Rpc(guarded.server.wait_for("listening")["grpc"])
    before = guarded.server.numbers()["sortal_requests_received_total"]
    name = guarded.server.wait_for("ready")["model"]
    try:
        for _ in range(3):
            assert rpc.ask("sortal.v1.Classifier", "Classify", b"").code in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED")
        asked = health_pb2.HealthCheckRequest(service="other")
        reply = rpc.ask("grpc.health.v1.Health", "Check", asked)
        key = {"authorization": f"Bearer {guarded.keys['admin']}"}
        told = rpc.ask("grpc.health.v1.Health", "List", health_pb2.HealthListRequest(), metadata=key)
    finally:
        rpc.close()
    assert guarded.server.numbers()["sortal_requests_received_total"] == before
    assert (reply.code, name in reply.details) == ("NOT_FOUND", False)
    assert name in health_pb2.HealthListResponse.FromString(told.messages[0]).statuses


HANDLERS = """
from sortal.serve.grpc import classifier, health, inference
from sortal.serve.grpc.calls import Calls
calls = Calls(None, None)
for module, made in (
    (classifier, classifier.Classifier(None, None, calls, None)),
    (health, health.Health(None, None, calls, [], None)),
    (inference, inference.Inference(None, calls, None)),
):
    for name in made.handlers():
        print(f"/{module.SERVICE}/{name}")
"""
"""Run in a process of its own: one that has imported grpc must not fork, and other tests do."""


def test_the_table_knows_every_call_of_grpc() -> None:
    done = subprocess.run([sys.executable, "-c", HANDLERS], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(CALLS)


def test_bearer_and_header_are_the_same_and_other_schemes_are_none(guarded: Guarded) -> None:
    key = guarded.keys["infer"]
    guarded.server.key = ""
    for headers, status in (
        ({"Authorization": f"Bearer {key}"}, 200),
        ({"Authorization": f"bearer  {key} "}, 200),
        ({"X-API-Key": key}, 200),
        ({"Authorization": f"Basic {key}"}, 401),
        ({"Authorization": key}, 401),
        ({"Cookie": f"key={key}"}, 401),
        ({"X-API-Key": ""}, 401),
    ):
        assert guarded.server.ask("GET", "/model", None, headers)[0] == status, headers
    assert guarded.server.ask("GET", f"/model?api_key={key}&key={key}")[0] == 401
    guarded.server.key = guarded.keys["admin"]


def test_only_one_comparison_of_keys_and_it_takes_the_same_time() -> None:
    """No `==` of a digest anywhere in the gate; `hmac.compare_digest` alone says whose key it is."""
    compared = []
    for file in (REPOSITORY / "src/sortal/serve/guard").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                names = {
                    one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in ast.walk(node)
                }
                assert not names & {"sha256", "digest", "secret", "given"}, (file.name, ast.unparse(node))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest":
                compared.append(file.name)
    assert compared == ["ring.py"]
