"""Canary and shadow behind a real server: who answers, what happens when they fail, and that nobody notices."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colors import color_bundle
from servers import PATIENCE_S, Server, Start
from sortal.core.bundle import Bundle, open_bundle
from sortal.workspace.deployment import deployment, journal, promote, withdraw
from sortal.workspace.events import events_since
from sortal.workspace.folder import Workspace, create_workspace


@pytest.fixture
def line(bundles: tuple[Path, Path], tmp_path: Path) -> Workspace:
    """A workspace whose live bundle is the first of `bundles`."""
    workspace = create_workspace(tmp_path / "line4")
    promote(workspace, open_bundle(bundles[0]))
    return workspace


class Load:
    """Clients that ask one request after the other and note what they were told."""

    def __init__(self, server: Server, image: bytes, clients: int = 3):
        self.told: list[tuple[int, str]] = []
        self._server, self._image, self._ends = server, image, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._ends.is_set():
            status, answer = self._server.predict(self._image)
            self.told.append((status, answer.get("bundle_id", "")))


def until(true: Callable[[], bool], server: Server) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, server.log.read_text(encoding="utf-8")
        time.sleep(0.05)


def role_workers(server: Server, role: str) -> float:
    name = server.log.parent.joinpath("line4").name
    return server.numbers().get(f'sortal_workers_ready{{model="{name}",role="{role}"}}', 0.0)


def workers_of(server: Server, bundle: Bundle) -> list[int]:
    return [pid for pid in server.workers() if bundle.id in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_canary_answers_its_keys_and_dies_without_a_failed_request(
    bundles: tuple[Path, Path], colors: dict[str, bytes], start: Start, line: Workspace
) -> None:
    live, canary = (open_bundle(path) for path in bundles)
    promote(line, canary, canary=0.5)
    server = start(line.path, "workers=1", "canary_gone_s=10")
    until(lambda: role_workers(server, "canary") == 1, server)
    keys = [f"part-{number}" for number in range(40)]
    first = {key: server.predict(colors["red"], X_Routing_Key=key)[1] for key in keys}
    assert {told["role"]: told["bundle_id"] for told in first.values()} == {"live": live.id, "canary": canary.id}
    again = {key: server.predict(colors["red"], X_Routing_Key=key)[1]["role"] for key in keys}
    assert again == {key: told["role"] for key, told in first.items()}
    assert 5 <= sum(role == "canary" for role in again.values()) <= 35
    assert server.end() == 0
    server = start(line.path, "workers=1", "canary_gone_s=10")  # another process knows them too
    until(lambda: role_workers(server, "canary") == 1, server)
    assert {key: server.predict(colors["red"], X_Routing_Key=key)[1]["role"] for key in keys} == again
    with Load(server, colors["red"]) as load:
        while not [one for one in server.events() if one["event"] == "aborted"]:
            for pid in workers_of(server, canary):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        until(lambda: not workers_of(server, canary), server)
    assert {status for status, _ in load.told} == {200}
    assert {bundle for _, bundle in load.told} >= {live.id}
    aborted = server.wait_for("aborted")
    assert aborted["bundle_id"] == canary.id
    until(lambda: deployment(line).canary is None, server)
    entry = journal(line, last=1)[0]
    assert (entry.action, entry.by, entry.note, entry.state.live) == (
        "withdraw",
        "sortal serve",
        aborted["reason"],
        live.id,
    )
    server.account()
    assert server.end() == 0
    roles = {(event.role, event.bundle_id) for event in events_since(line)}
    assert roles == {("live", live.id), ("canary", canary.id)}


@pytest.mark.parametrize(
    ("changes", "reason"), [({"factor": -4.0, "threshold": 0.0}, "another class"), ({"threshold": 1.0}, "to a person")]
)
def test_a_canary_that_answers_badly_is_ended(
    changes: dict[str, float],
    reason: str,
    colors: dict[str, bytes],
    start: Start,
    line: Workspace,
    tmp_path: Path,
) -> None:
    promote(line, open_bundle(color_bundle(tmp_path / "bad", **changes)), canary=0.5)
    server = start(line.path, "workers=1")
    until(lambda: role_workers(server, "canary") == 1, server)
    with Load(server, colors["red"]) as load:
        aborted = server.wait_for("aborted")
    assert reason in aborted["reason"]
    assert {status for status, _ in load.told} == {200}
    until(lambda: deployment(line).canary is None, server)


def test_a_canary_that_cannot_start_gets_nothing_and_is_ended(
    bundles: tuple[Path, Path], colors: dict[str, bytes], start: Start, line: Workspace
) -> None:
    canary = open_bundle(bundles[1])
    promote(line, canary, canary=0.9)
    for file in (line.path / "bundles" / canary.id / "artifacts" / "onnx").iterdir():
        file.write_bytes(b"nothing")
    server = start(line.path, "workers=1", "canary_gone_s=3")
    with Load(server, colors["red"]) as load:
        aborted = server.wait_for("aborted")
    assert "no worker of it was ready for 3 s" in aborted["reason"]
    assert set(load.told) == {(200, deployment(line).live)}


def test_a_shadow_is_asked_everything_and_answers_nobody(
    bundles: tuple[Path, Path], colors: dict[str, bytes], start: Start, line: Workspace, tmp_path: Path
) -> None:
    shadow = open_bundle(color_bundle(tmp_path / "other", factor=-4.0, threshold=0.0))
    promote(line, shadow, shadow=True)
    server = start(line.path, "workers=1", "keep=all", "queue=16", "images=16")
    until(lambda: role_workers(server, "shadow") == 1, server)
    for number in range(10):
        status, told = server.predict(colors["green"], X_Request_Id=f"r{number}")
        assert (status, told["role"], told["predictions"][0]["label"]) == (200, "live", "green")

    def counted() -> dict[str, float]:
        return json.loads(server.ask("GET", "/health")[2])["models"]["line4"]["roles"]["shadow"]

    until(lambda: counted()["other"] == 10, server)
    assert (counted()["same"], counted()["dropped"]) == (0, 0)
    os.kill(workers_of(server, shadow)[0], signal.SIGSTOP)
    assert [server.predict(colors["green"])[0] for _ in range(20)] == [200] * 20  # nobody waits for it
    assert counted()["dropped"] >= 4
    os.kill(workers_of(server, shadow)[0], signal.SIGCONT)
    withdraw(line)
    server.wait_for("shadow ended")
    until(lambda: not workers_of(server, shadow), server)
    assert server.end() == 0
    events = {event.request_id: event for event in events_since(line)}
    for number in range(10):
        live, beside = events[f"r{number}"], events[f"r{number}#shadow"]
        assert (live.role, beside.role, beside.bundle_id) == ("live", "shadow", shadow.id)
        assert live.image_sha256 == beside.image_sha256
        assert live.top[0][0] == "green" != beside.top[0][0]


def test_five_exchanges_under_load_lose_nothing(
    bundles: tuple[Path, Path], colors: dict[str, bytes], start: Start, line: Workspace
) -> None:
    one, two = (open_bundle(path) for path in bundles)
    server = start(line.path, "workers=1")
    with Load(server, colors["blue"]) as load:
        for turn in range(1, 4):
            promote(line, two if turn % 2 else one)
            server.wait_for("exchanged", turn)
        promote(line, one, canary=0.3)
        until(lambda: role_workers(server, "canary") == 1, server)
        before = len(load.told)
        until(lambda: one.id in {bundle for _, bundle in load.told[before:]}, server)
        promote(line, one)  # the canary's own workers take over
        server.wait_for("exchanged", 4)
        promote(line, two, shadow=True)
        until(lambda: role_workers(server, "shadow") == 1, server)
        promote(line, two)
        server.wait_for("exchanged", 5)
    assert {status for status, _ in load.told} == {200}
    assert {bundle for _, bundle in load.told} == {one.id, two.id}
    assert server.predict(colors["blue"])[1]["bundle_id"] == two.id
    until(lambda: len(server.workers()) == 1, server)
    server.account()


def test_several_workers_mix_nothing_up(bundles: tuple[Path, Path], start: Start) -> None:
    """Unique images whose color says what the answer has to be."""
    server = start(bundles[0], "workers=3", "batch=4")
    server.wait_for_workers(3)
    random, wrong = np.random.default_rng(0), list[int]()
    names, wanted, bodies = ("red", "green", "blue"), random.integers(3, size=240), list[bytes]()
    for number, place in enumerate(wanted.tolist()):
        pixels = np.full((12, 12, 3), number % 50, np.uint8)
        pixels[..., place] = 200 + number // 6
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        bodies.append(file.getvalue())
    alone = [server.predict(body)[1]["predictions"][0]["probability"] for body in bodies[:24]]

    def ask(first: int) -> None:
        for number in range(first, len(bodies), 8):
            status, told = server.predict(bodies[number], X_Request_Id=f"n{number}")
            predicted = told["predictions"][0]
            right = (status, told["request_id"], predicted["label"]) == (200, f"n{number}", names[wanted[number]])
            if not right or (number < 24 and abs(predicted["probability"] - alone[number]) > 1e-5):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    server.account()
