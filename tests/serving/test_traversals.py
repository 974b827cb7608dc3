"""Names that lead elsewhere lead nowhere: what a server and the commands of a workspace look at, by system calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpc import CLASSIFIER, INFERENCE, Rpc
from scripts import need_strace
from servers import PATIENCE_S, Server
from sockets import CLOSE, head, said
from sortal.core.bundle import open_bundle
from sortal.serve.grpc.messages import message_class
from sortal.workspace.deployment import promote
from sortal.workspace.folder import create_workspace
from traversals import IN_ADDRESSES, IN_MESSAGES

# -D: what is traced is our own child, and the one who traces it is not.
STRACE = ("strace", "-D", "-f", "-q", "-y", "-ttt", "-s", "8192", "-e", "trace=%file", "-e", "signal=none", "-o")
_CALL = re.compile(r"\d+ +(\d+\.\d+) \w+\((.*)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')

COMMANDS = """
import json, sys, time
from sortal.cli.app import run

for workspace, names in json.loads(sys.argv[1]):
    print(time.time(), flush=True)
    for name in names:
        for command in (["rollback", workspace, "--to", name], ["workspace", workspace, "--keep", name]):
            code = run(command)
            assert code == 2, (command, code)
print(time.time(), flush=True)
"""


def touched(log: Path, since: float, until: float) -> set[str]:
    """What calls with names of files were about, within a time of the wall clock."""
    found = set[str]()
    for line in log.read_text(encoding="utf-8", errors="backslashreplace").splitlines():
        call = _CALL.match(line)
        if call is not None and since <= float(call[1]) < until:
            found |= set(_TEXT.findall(call[2]))
    return found


def outside(log: Path, before: tuple[float, float], then: tuple[float, float], inside: Path) -> set[str]:
    """What was looked at then, and neither before nor inside of a folder."""
    return {
        path
        for path in touched(log, *then) - touched(log, *before)
        if not path.startswith(f"{inside}/") or "/../" in path
    }


@pytest.fixture
def workspace(bundles: tuple[Path, Path], tmp_path: Path) -> Path:
    need_strace()
    with create_workspace(tmp_path / "place" / "line4") as made:
        promote(made, open_bundle(bundles[0]))
        promote(made, open_bundle(bundles[1]))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("secret", encoding="utf-8")
    return made.path


@pytest.fixture
def traced(workspace: Path, tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    log, calls = tmp_path / "log", tmp_path / "calls"
    settings = [str(workspace), "port=0", "workers=1", "keep=all", "name=one", "body_mb=1"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*STRACE, calls, sys.executable, "-m", "sortal", "serve", *settings], stderr=file, stdout=file
        )
    server = Server(process=process, log=log)
    try:
        listening = server.wait_for("listening")
        server.port, server.grpc = int(listening["url"].rpartition(":")[2]), listening["grpc"]
        server.wait_for("ready")
        yield server, calls
    finally:
        server.end()


def over_http(server: Server, name: str) -> None:
    quoted = json.dumps(name)
    for method, path, body in (
        ("GET", f"/v2/models/{name}", ""),
        ("GET", f"/v2/models/one/versions/{name}", ""),
        ("POST", f"/v2/models/{name}/infer", ""),
        ("POST", f"/v2/repository/models/{name}/load", ""),
        ("POST", f"/models/{name}/predict", ""),
        ("POST", f"/predict?model={name}", ""),
        ("POST", f"/explain?model={name}", ""),
        ("GET", f"/model?model={name}", ""),
        ("GET", f"/page/{name}", ""),
        ("POST", "/feedback", f'{{"label": "red", "request_id": {quoted}}}'),
        ("POST", "/feedback", f'{{"label": "red", "image_sha256": {quoted}}}'),
        ("POST", "/feedback", f'{{"label": {quoted}, "request_id": "r"}}'),
    ):
        lines = (f"Content-Length: {len(body.encode())}", "Content-Type: application/json", CLOSE)
        [(status, told)] = said(server, head(path, *lines, method=method), body.encode())
        assert 400 <= status < 500 or status == 501, (path, status)
        assert told["error"]


def over_grpc(rpc: Rpc, name: str) -> None:
    for method, fields in (
        ("ModelInfer", {"model_name": name}),
        ("ModelInfer", {"model_name": "one", "model_version": name}),
        ("ModelReady", {"name": name}),
        ("ModelConfig", {"name": "one", "version": name}),
    ):
        message = message_class(f"inference.{method}Request")(**fields)
        assert rpc.ask(INFERENCE, method, message).code == "NOT_FOUND", (method, name)
    message = message_class("sortal.v1.ClassifyRequest")(images=[b"1"], model=name)
    assert rpc.ask(CLASSIFIER, "Classify", message).code == "NOT_FOUND", name


def test_no_name_that_a_client_sends_is_looked_for(
    traced: tuple[Server, Path], workspace: Path, colors: dict[str, bytes]
) -> None:
    """Nothing is looked at, outside of the workspace, that a plain wrong name did not lead to as well."""
    server, calls = traced
    rpc, begun = Rpc(server.grpc), time.time()
    try:
        assert server.predict(colors["red"], X_Request_Id="r")[0] == 200
        for name in ("other", "another"):
            over_http(server, name)
            over_grpc(rpc, name)
        between = time.time()
        for name in IN_ADDRESSES:
            over_http(server, name)
        for name in IN_MESSAGES:
            over_grpc(rpc, name)
        for name in ("..", "../../etc/passwd", "/etc/passwd", "a/../../b"):
            assert server.predict(colors["red"], X_Request_Id=name)[0] == 200
    finally:
        rpc.close()
    ended = time.time()
    server.account()
    assert server.end() == 0
    assert any(path.endswith("model.onnx") for path in touched(calls, 0, begun))  # workers are traced, too
    assert any(str(workspace) in path for path in touched(calls, between, ended))  # and what is in the phase
    assert outside(calls, (0, between), (between, ended), workspace) == set()


def test_no_name_that_a_command_gets_is_looked_for(workspace: Path, tmp_path: Path) -> None:
    names = [name for name in IN_MESSAGES if "\0" not in name and len(name) < 4096]
    assert len(names) > 35
    calls = tmp_path / "calls"
    phases = json.dumps([(str(workspace), ["abcd", "other"]), (str(workspace), names)])
    done = subprocess.run(
        [*STRACE, calls, sys.executable, "-c", COMMANDS, phases], capture_output=True, timeout=2 * PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    second, last = [float(line) for line in done.stdout.split() if re.fullmatch(rb"\d{10}\.\d+", line)][1:]
    assert touched(calls, second, last)
    assert outside(calls, (0, second), (second, last), workspace) == set()


def test_a_name_that_is_looked_for_is_found(tmp_path: Path) -> None:
    """The control: a program that does follow a name."""
    need_strace()
    calls = tmp_path / "calls"
    program = "import os, time; print(time.time()); os.path.exists('../../etc/passwd'); os.path.exists('a/x')"
    done = subprocess.run([*STRACE, calls, sys.executable, "-c", program], capture_output=True, check=True)
    begun = float(done.stdout)
    assert outside(calls, (0, begun), (begun, time.time()), Path("a")) == {"../../etc/passwd"}
