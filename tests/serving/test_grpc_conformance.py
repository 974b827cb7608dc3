"""The conformance suite of the Open Inference Protocol with unmodified clients, which have an environment of their own.

`tests/oip` is a tool for any server; here it is pointed at ours, and at one that is broken.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from servers import Server

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv/programs/triton/bin/python"
SUITE = ROOT / "tests/oip"
MISSING = "the clients are not installed: make setup"

if os.environ.get("CI") != "true":
    pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=MISSING)


def run(*command: str, paths: str = "") -> subprocess.CompletedProcess[str]:
    assert PYTHON.exists(), MISSING
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [str(PYTHON), *command], capture_output=True, text=True, timeout=300, cwd=SUITE, env=environment
    )


def test_unmodified_clients_find_all_that_they_know(shared: Server, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    addresses = ("--http", f"127.0.0.1:{shared.port}", "--grpc", shared.grpc)
    ended = run("conformance.py", *addresses, "--model", "one", "--json", str(table))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(table.read_text(encoding="utf-8"))
    assert {one["verdict"] for one in found} == {"pass"}
    ways = {one["way"] for one in found}
    assert {f"tritonclient {way}" for way in ("http", "http.aio", "grpc", "grpc.aio")} < ways
    assert len(found) >= 43
    shared.account()


def test_one_way_alone_can_be_tested(shared: Server) -> None:
    ended = run("conformance.py", "--grpc", shared.grpc, "--model", "one")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "tritonclient http" not in ended.stdout
    ended = run("conformance.py", "--grpc", shared.grpc, "--model", "two")
    assert (ended.returncode, "cannot be asked" in ended.stderr) == (2, True)


def test_the_suite_finds_what_is_wrong_with_a_broken_server() -> None:
    ended = run("broken.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    verdicts = [line.split("  ")[0] for line in ended.stdout.splitlines()]
    assert verdicts[0] == "sound"
    assert verdicts[1:] == ["found"] * 13


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_our_messages_and_those_of_tritonclient_live_in_one_process(order: tuple[str, str]) -> None:
    imports = {
        "ours": "from sortal.serve.grpc import messages; ours = messages.message_class('inference.ModelInferRequest')",
        "theirs": "from tritonclient.grpc.service_pb2 import ModelInferRequest as theirs",
    }
    program = "\n".join(
        [
            *(imports[one] for one in order),
            "message = ours(model_name='one', id='7', raw_input_contents=[b'1'])",
            "message.inputs.add(name='x', datatype='FP32', shape=[1, -1]).parameters['a'].double_param = 2",
            "assert theirs.FromString(message.SerializeToString()).SerializeToString() == message.SerializeToString()",
        ]
    )
    ended = run("-c", program, paths=str(ROOT / "src"))
    assert ended.returncode == 0, ended.stderr


def test_our_names_and_numbers_are_the_protocols() -> None:
    program = """
from sortal.serve.grpc import messages
from tritonclient.grpc import model_config_pb2, service_pb2
theirs = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}
ours = messages.message_class("inference.ModelInferRequest").DESCRIPTOR.file.message_types_by_name
def fields(message):
    return {(field.name, field.number, field.type, field.is_repeated) for field in message.fields}
def check(mine, other):
    assert fields(mine) <= fields(other), (mine.name, fields(mine) - fields(other))
    for one in mine.nested_types:
        check(one, other.nested_types_by_name[one.name])
for name, message in ours.items():
    check(message, theirs[name])
assert len(ours) > 25
"""
    ended = run("-c", program, paths=str(ROOT / "src"))
    assert ended.returncode == 0, ended.stderr
