"""A server that asks for keys: keys that change, that ask too often or are guessed; pages of other sites; metrics on a
port of their own; and secrets that are written nowhere."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from rpc import Rpc
from servers import PATIENCE_S, Server, Start
from sortal.core.bundle import open_bundle
from sortal.serve.guard.keys import PREFIX, add_key, revoke_key, rotate_key
from sortal.serve.guard.origins import is_foreign
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace


def status(server: Server, path: str, key: str = "", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.ask("GET", path, None, {"X-API-Key": key} | named)[0]


def test_keys_change_without_a_restart(start: Start, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    chief, one = add_key(file, "chief", ("admin",)), add_key(file, "one", ("infer",))
    server = start(bundles[0], "workers=1", "--auth", str(file))
    server.key = chief
    assert status(server, "/model", one) == 200
    two = rotate_key(file, "one", overlap="1h")
    server.wait_for("keys reloaded")
    assert [status(server, "/model", key) for key in (one, two)] == [200, 200]
    revoke_key(file, "one")
    server.wait_for("keys reloaded", 2)
    assert [status(server, "/model", key) for key in (one, two)] == [401, 401]
    before = file.read_bytes()
    file.write_bytes(b"keys: [")
    assert "not YAML" in server.wait_for("keys not reloaded")["reason"]
    assert status(server, "/model", chief) == 200
    file.write_bytes(before)
    server.wait_for("keys reloaded", 3)
    refused = [event for event in server.events() if event["event"] == "refused"]
    assert {event["reason"] for event in refused} == {"wrong key"}
    assert {event["address"] for event in refused} == {"127.0.0.1"}


def test_who_asks_too_often_or_guesses_has_to_wait(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path
) -> None:
    file = tmp_path / "keys.yaml"
    chief, slow = add_key(file, "chief", ("admin",)), add_key(file, "slow", ("infer",), rate="1/h", burst=3)
    server = start(bundles[0], "workers=1", "--auth", str(file))
    server.key = slow
    answers = [server.ask("POST", "/predict", colors["red"]) for _ in range(5)]
    assert [one[0] for one in answers] == [200, 200, 200, 429, 429]
    assert 3000 < int(answers[-1][1]["retry-after"]) <= 3600
    assert json.loads(answers[-1][2]) == {"error": "this key asks too often"}
    assert status(server, "/livez", slow) == 200
    rpc = Rpc(server.wait_for("listening")["grpc"])
    service = "inference.GRPCInferenceService"
    try:
        reply = rpc.ask(service, "ServerMetadata", b"", metadata={"x-api-key": slow})
        assert (reply.code, reply.details.splitlines()[0]) == ("RESOURCE_EXHAUSTED", "this key asks too often")
        for number in range(12):
            path = "/model" if number % 2 else "/nothing"
            found = status(server, path, f"{PREFIX}guess{number}", x_forwarded_for=f"10.0.0.{number}")
            assert found == (401 if number < 10 else 429)
        reply = rpc.ask(service, "ServerMetadata", b"", metadata={"authorization": "Bearer guess"})
        assert reply.code == "RESOURCE_EXHAUSTED"  # one count for both ways
        assert rpc.ask(service, "ServerMetadata", b"", metadata={"x-api-key": chief}).code == "OK"
    finally:
        rpc.close()
    server.key = chief
    numbers = server.numbers()
    assert numbers['sortal_refused_total{reason="wrong key"}'] == 10
    assert numbers['sortal_refused_total{reason="too many wrong keys"}'] == 3
    assert numbers['sortal_refused_total{reason="too often"}'] == 3
    assert len([event for event in server.events() if event["event"] == "refused"]) == 10
    [named] = {event["key"] for event in server.events() if event["event"] == "predict"}
    assert named == "slow"
    server.account()


def test_pages_of_other_sites_are_kept_out(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1")
    here = f"127.0.0.1:{server.port}"
    for origin, host, expected in (
        (None, here, 200),
        (f"http://{here}", here, 200),
        (f"http://localhost:{server.port}", f"localhost:{server.port}", 200),
        ("http://evil.example", here, 403),
        ("http://evil.example:8000", "evil.example:8000", 403),  # a name that was turned to loopback
        ("null", here, 403),
        ("", here, 403),
        ("http://[", here, 403),
    ):
        headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
        assert server.ask("POST", "/predict", colors["red"], headers)[0] == expected, (origin, host)
    told = server.ask("GET", "/readyz", None, {"Origin": "http://evil.example"})
    assert told[0] == 200
    assert not any(name.startswith("access-control") for name in told[1])
    assert server.numbers()['sortal_refused_total{reason="foreign page"}'] == 5
    server.account()


def test_pages_that_are_named_may_ask(start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    server = start(bundles[0], "workers=1", "origins=[https://line4.example]")
    own = {"Origin": "https://line4.example"}
    found, headers, _ = server.ask("POST", "/predict", colors["red"], own)
    assert (found, headers["access-control-allow-origin"]) == (200, "https://line4.example")
    assert "access-control-allow-credentials" not in headers
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert server.ask("OPTIONS", "/predict", None, own | asked)[0] == 200
    other = {"Origin": "https://evil.example"}
    assert server.ask("OPTIONS", "/predict", None, other | asked)[0] == 400
    found, headers, _ = server.ask("POST", "/predict", colors["red"], other)
    assert found == 403
    assert "access-control-allow-origin" not in headers


def test_whose_page_it_is() -> None:
    for origin, host, loopback, foreign in (
        ("https://a.example", "a.example", False, False),
        ("https://A.example:8443", "a.example:8443", False, False),
        ("https://a.example", "b.example", False, True),
        ("https://a.example", "a.example", True, True),
        ("http://[::1]:8000", "[::1]:8000", True, False),
    ):
        assert is_foreign(origin, host, (), on_loopback=loopback) is foreign, (origin, host)
    assert not is_foreign("https://c.example", "x", ("*",), on_loopback=True)
    assert is_foreign("https://c.example", "x", ("https://d.example",), on_loopback=True)


def test_metrics_have_a_port_of_their_own(start: Start, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    add_key(file, "one", ("infer",))
    server = start(bundles[0], "workers=1", "metrics_port=0", "--auth", str(file))
    url = server.wait_for("listening")["metrics"]
    assert url.endswith("/metrics")
    port = int(url.split(":")[2].partition("/")[0])
    assert port != server.port
    told = dict[str, int]()
    for path in ("/metrics", "/predict", "/health", "/"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path)
        told[path] = connection.getresponse().status
        connection.close()
    assert told == {"/metrics": 200, "/predict": 404, "/health": 404, "/": 404}
    server.key = add_key(file, "chief", ("admin",))
    server.wait_for("keys reloaded")
    assert status(server, "/metrics", server.key) == 404
    assert server.end() == 0


def test_a_port_for_metrics_that_is_taken_is_told(bundles: tuple[Path, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "sortal", "serve", str(bundles[0]), "port=0", f"metrics_port={port}"]
        done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert b"the port cannot be opened" in done.stderr
    assert b"Traceback" not in done.stderr


def without_received(body: bytes) -> bytes:
    """An error without what it repeats to who sent it."""
    lines = body.replace(b"\\n", b"\n").split(b"\n")
    told = b"\n".join(line for line in lines if not line.startswith(b"  received:"))
    return re.sub(rb'"received":"[^"]*"', b"", told)


SECRET, PLAIN = PREFIX + "Canary" * 7 + "9", "canary-in-a-coal-mine-7731"


@pytest.mark.parametrize("canary", [SECRET, PLAIN])
def test_secrets_are_written_nowhere(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes], tmp_path: Path, canary: str
) -> None:
    """One value as key, header, query and body, along every way to an error. An error says what was received from who
    sent it, unless it is a key; that stands in `received` alone."""
    file = tmp_path / "keys.yaml"
    chief = add_key(file, "chief", ("admin",))
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, open_bundle(bundles[0]))
        server = start(workspace.path, "workers=1", "urls=true", "body_mb=0.5", "--auth", str(file))
    bodies, text = list[bytes](), canary.encode()
    headers = {
        "Authorization": f"Bearer {chief}",
        "X-Secret": canary,
        "Cookie": canary,
        "Content-Type": "application/json",
    }
    headers |= {"Referer": f"http://{canary}/", "User-Agent": canary, "traceparent": canary}
    paths = ["/predict", "/explain", "/feedback", "/v2/models/one/infer", "/v2/repository/index", "/nothing", "/model"]
    said = [
        text,
        b'{"image": "' + text + b'"}',
        b'{"' + text + b'": 1}',
        b'{"url": "http://user:' + text + b'@127.0.0.1/"}',
        b'{"label": "' + text + b'", "request_id": "' + text + b'"}',
        b'{"label": "red", "image_sha256": "' + text + b'"}',
        b'{"inputs": [{"name": "'
        + text
        + b'", "datatype": "'
        + text
        + b'", "shape": [1], "data": ["'
        + text
        + b'"]}]}',
        text * 30_000,
        b"",
    ]
    for path in paths:
        for body in said:
            for more in ("", f"?api_key={quote(canary)}", f"?top={quote(canary)}", f"?model={quote(canary)}"):
                for method in ("POST", "GET"):
                    bodies.append(server.ask(method, path + more, body, headers)[2])
    for more in (
        {"Authorization": f"Bearer {canary}"},
        {"X-API-Key": canary},
        {"Authorization": f"Basic {canary}"},
        headers | {"Content-Encoding": canary},
        headers | {"Inference-Header-Content-Length": canary},
        headers | {"Content-Type": f"multipart/form-data; boundary={canary}"},
        headers | ({"X-Request-Id": canary} if canary == SECRET else {}),
    ):
        bodies += [server.ask("POST", path, b"x", more)[2] for path in paths]
    bodies.append(server.ask("GET", f"/v2/models/{canary}" if canary == SECRET else "/v2", None, headers)[2])
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /" + text + b" HTTQ\r\n" + text + b"\r\n\r\n")
        bodies.append(connection.recv(10_000))
    rpc = Rpc(server.wait_for("listening")["grpc"])
    try:
        for method in ("ServerMetadata", "ModelInfer", "ModelMetadata"):
            for metadata in ({"authorization": f"Bearer {canary}"}, {"x-api-key": chief, "x-request-id": canary[:6]}):
                reply = rpc.ask(
                    "inference.GRPCInferenceService", method, text, metadata=metadata | {"x-secret": canary}
                )
                bodies.append(reply.details.encode())
    finally:
        rpc.close()
    server.key = chief
    bodies += [server.ask("GET", "/metrics")[2], server.ask("GET", "/health")[2]]
    for pid in (server.process.pid, *server.workers()):
        bodies.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    assert chief.encode() not in b"".join(bodies) + server.log.read_bytes()
    assert text not in server.log.read_bytes()
    assert [body for body in bodies if text in (body if canary == SECRET else without_received(body))] == []
    server.account()


def test_a_stranger_is_not_told_why(start: Start, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    file, copy = tmp_path / "keys.yaml", tmp_path / "copy"
    chief = add_key(file, "chief", ("admin",))
    shutil.copytree(bundles[0], copy)
    server = start(copy, "workers=1", "--auth", str(file))
    (copy / "artifacts" / "onnx" / "model.onnx").write_bytes(b"damaged")
    os.kill(server.workers()[0], signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while b"model.onnx" not in server.ask("GET", "/health", None, {"X-API-Key": chief})[2] and time.monotonic() < end:
        time.sleep(0.05)
    found, _, body = server.ask("GET", "/readyz")
    assert (found, json.loads(body)) == (503, {"ready": False})
    assert b"model.onnx" in server.ask("GET", "/health", None, {"X-API-Key": chief})[2]


def test_a_log_that_cannot_be_written_costs_no_request(bundles: tuple[Path, Path], colors: dict[str, bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sortal", "serve", str(bundles[0]), f"port={port}", "grpc_port=off", "workers=1"]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(command, stderr=full, stdout=full)
    server = Server(process=process, log=Path("/dev/null"), port=port)
    try:
        end, ready = time.monotonic() + PATIENCE_S, 0
        while ready != 200 and time.monotonic() < end:
            with suppress(OSError):
                ready = status(server, "/readyz")
            time.sleep(0.1)
        assert server.predict(colors["red"])[0] == 200
        server.account()
    finally:
        code = server.end()
    assert code == 0


def test_one_event_is_one_line_whatever_ids_contain(
    start: Start, bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    server = start(bundles[0], "workers=1")
    names = ["\x1b[31mred", "a\tb", "é", "x" * 100_000, '"}{"event": "ended"', "\u2028", "%0a%0d", "\\n", "${x}"]
    for name in names:
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nX-Request-Id: {name}\r\nContent-Length: {len(colors['red'])}\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            try:
                connection.sendall(head.encode() + b"Connection: close\r\n\r\n" + colors["red"])
                while connection.recv(10_000):
                    pass
            except ConnectionError:
                pass
    body = {"id": "a\nb\x1b\u2028", "inputs": []}
    server.predict(json.dumps(body).encode(), "/v2/models/one/infer")
    time.sleep(0.2)
    lines = server.log.read_bytes().splitlines()
    events = [json.loads(line) for line in lines]
    assert all(line.isascii() and line.decode().isprintable() for line in lines)
    assert not any(event["event"] == "ended" for event in events)
    asked = len(names) - 2 + 1  # the long one and the one with an escape are no requests
    assert sum(event["event"] == "predict" for event in events) == asked


def test_a_worker_that_crashes_says_so_in_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "sortal.serve.worker", "{}"], capture_output=True, text=True)
    [line] = done.stderr.splitlines()
    told = json.loads(line)
    assert (done.returncode, told["event"], told["error"]) == (1, "crashed", "KeyError")
    assert told["at"][-1].startswith("worker.py:")
