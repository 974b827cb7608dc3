"""What is done when a label begins: webhooks, outputs, lines and recordings, none of which may hold the line up."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cameras import GREEN, RED

from sortal.core.errors import InputError
from sortal.data.decode import decode
from sortal.data.open import images
from sortal.stream.actions import MOST_WAITING, Action, check_names, deed_of, wanted
from sortal.stream.episodes import Change
from sortal.stream.outlet import Outlet, outlet_to
from sortal.stream.recording import Recording

PATIENCE_S = 60.0


def change(name: str = "crack", *, began: bool = True, number: int = 0) -> Change:
    return Change(began=began, name=name, record={"kind": "began", "name": name, "frame": number})


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError("not in time")


@contextmanager
def receiver(*statuses: int, port: int = 0) -> Iterator[tuple[int, list[tuple[str, str, Any]]]]:
    """A server that answers with these statuses, the last one for ever, and keeps what it was sent."""
    got: list[tuple[str, str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(statuses[min(len(got), len(statuses)) - 1])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], got
        finally:
            server.shutdown()
            thread.join()


def test_a_webhook_is_sent_when_its_label_begins() -> None:
    with receiver(204) as (port, got):
        action = Action("crack", deed_of(wanted(f"crack=POST http://me:geheim@127.0.0.1:{port}/x?y=1")), lambda _: None)
        action.see(change("good"))
        action.see(change(began=False))
        action.see(change(number=7))
        until(lambda: action.done)
        action.close(5)
    assert [(path, body["frame"]) for path, _, body in got] == [("/x?y=1", 7)]
    assert got[0][1] == "Basic bWU6Z2VoZWlt"


def test_a_server_that_fails_for_a_while_is_asked_again_and_a_refusal_is_final() -> None:
    told: list[dict[str, Any]] = []
    with receiver(503, 500, 429, 200, 404) as (port, got):
        action = Action("crack", deed_of(wanted(f"crack=post http://127.0.0.1:{port}/")), told.append)
        action.see(change(number=1))
        until(lambda: action.done)
        assert len(got) == 4
        action.see(change(number=2))
        until(lambda: action.failed)
        action.close(5)
    assert len(got) == 5
    assert [event["message"] for event in told] == ["answered with status 404"]


def test_a_server_that_is_down_holds_nobody_up_and_gets_the_newest_when_it_is_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    action = Action("crack", deed_of(wanted(f"crack=POST http://127.0.0.1:{port}/")), lambda _: None)
    started = time.monotonic()
    for number in range(1000):
        action.see(change(number=number))
    assert time.monotonic() - started < 5  # a thousand tries to connect would take longer than to remember them
    with receiver(200, port=port) as (_, got):
        until(lambda: action.done >= MOST_WAITING)
        action.close(30)
    assert got[-1][2]["frame"] == 999
    assert action.dropped == 1000 - len(got)
    assert MOST_WAITING <= len(got) <= MOST_WAITING + 1


def test_the_end_does_not_wait_for_a_server_that_is_down_or_silent() -> None:
    told: list[dict[str, Any]] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        url = f"http://admin:geheim@127.0.0.1:{silent.getsockname()[1]}/?key=verborgen"
        action = Action("crack", deed_of(wanted(f"crack=POST {url}")), told.append)
        for _ in range(5):
            action.see(change())
        time.sleep(0.2)
        started = time.monotonic()
        action.close(0.5)
        assert time.monotonic() - started < 4
    down = Action("crack", deed_of(wanted("crack=POST http://admin:geheim@127.0.0.1:9/?key=verborgen")), told.append)
    down.see(change())
    time.sleep(0.5)
    down.close(0.1)
    until(lambda: told)
    assert "geheim" not in str(told)
    assert "verborgen" not in str(told)
    assert "POST http://***@127.0.0.1:9/?key=***" in str(told)


@pytest.mark.parametrize(
    "text",
    [
        "crack", "crack=", "=POST http://h", "crack=POST", "crack=FETCH http://h", "crack=POST file:///etc/passwd",
        "crack=POST gopher://geheim@h/", "crack=POST http://", "crack=POST http://h:0x/",
        "crack=POST http://h/\r\nX: 1",
        "crack=SET gpio:17", "crack=SET simulated:", "crack=POST http://h/é",
    ],
)  # fmt: skip
def test_what_is_no_action_is_refused(text: str) -> None:
    with pytest.raises(InputError) as refused:
        deed_of(wanted(text))
    assert "geheim" not in str(refused.value)


def test_actions_belong_to_classes_or_to_what_is_no_answer() -> None:
    check_names([wanted(f"{name}=SET simulated:x") for name in ("crack", "unknown", "lost")], ["crack"])
    with pytest.raises(InputError, match="no class") as refused:
        check_names([wanted("crak=SET simulated:x")], ["crack", "good"])
    assert "crack" in str(refused.value)


def test_an_output_is_on_while_the_label_lasts_and_off_at_the_end(tmp_path: Path) -> None:
    line = tmp_path / "line"
    action = Action("crack", deed_of(wanted(f"crack=SET simulated:{line}")), lambda _: None)
    for began in (True, False, True):
        action.see(change(began=began))
    action.close(10)
    assert line.read_text().split() == ["1", "0", "1", "0"]
    told: list[dict[str, Any]] = []
    broken = Action("crack", deed_of(wanted(f"crack=SET simulated:{tmp_path}/no/such/folder")), told.append)
    broken.see(change())
    until(lambda: told)
    broken.close(1)
    assert told[0]["event"] == "action failed"


def test_a_reader_that_does_not_read_costs_the_oldest_lines_and_no_time() -> None:
    reading, writing = os.pipe()
    outlet = Outlet(writing, most=50)
    for number in range(20_000):
        outlet.put({"kind": "frame", "frame": number, "padding": "x" * 80})
    assert outlet.is_full
    assert outlet.dropped > 10_000
    got = b""
    closer = threading.Thread(target=lambda: (outlet.close(30), os.close(writing)))
    closer.start()
    with os.fdopen(reading, "rb") as file:
        got = file.read()
    closer.join()
    numbers = [json.loads(line)["frame"] for line in got.splitlines()]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 19_999
    assert len(numbers) + outlet.dropped == 20_000


def test_a_reader_that_is_gone_is_noticed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    outlet = Outlet(writing)
    outlet.put({"kind": "frame"})
    until(lambda: outlet.is_broken)
    assert not outlet.is_full
    os.close(writing)
    with pytest.raises(Exception, match="cannot be written"):
        outlet_to(tmp_path)


def test_a_full_disk_costs_lines_until_there_is_room_and_no_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "out"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    outlet = outlet_to(path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        for number in range(60):
            outlet.put({"frame": number, "padding": "x" * 30})
        until(lambda: outlet.trouble)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        until(lambda: not outlet.trouble)
        assert outlet.close(30)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
    numbers = [json.loads(line)["frame"] for line in whole]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 59
    assert outlet.dropped >= 1
    assert len(numbers) + outlet.dropped == 60


def record(number: int, state: str = "answered") -> dict[str, Any]:
    return {
        "time": f"2026-03-01T10:00:00.{number:03d}+00:00", "camera": "line 4", "frame": number, "state": state,
        "label": "red", "probability": 0.9, "bundle_id": "b",
    }  # fmt: skip


def pixels(number: int) -> bytes:
    random = np.random.default_rng(number)
    return b"P6\n40 30\n255\n" + random.integers(0, 255, (30, 40, 3)).astype(np.uint8).tobytes()


def test_a_recording_is_a_data_set_with_times_cameras_and_checksums(tmp_path: Path) -> None:
    kept = Recording(tmp_path / "kept", what="all", most_mb=10, log=lambda _: None)
    for number in range(3):
        kept.see(RED if number == 0 else pixels(number), "red", record(number))
    kept.close(30)
    with kept.table.open("ab") as file:
        file.write(b'{"path": "frames/half')  # a crash in the middle of a line
    again = Recording(tmp_path / "kept", what="all", most_mb=10, log=lambda _: None)
    again.see(GREEN, "red", record(3))
    again.close(30)
    lines = [json.loads(line) for line in kept.table.read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        data = (tmp_path / "kept" / line["path"]).read_bytes()
        assert sha256(data).hexdigest() == line["sha256"]
        assert (line["camera"], line["said"]) == ("line 4", "red")
    assert (tmp_path / "kept" / lines[0]["path"]).read_bytes() == RED  # as the camera sent it
    assert decode((tmp_path / "kept" / lines[1]["path"]).read_bytes()).shape == (30, 40, 3)
    table = images(kept.table)
    assert (len(table), table.rejected.height) == (4, 0)


def test_what_is_recorded_can_be_chosen_and_is_bounded(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    states = ["answered", "answered", "abstained", "abstained", "unknown", "answered", "rejected"]
    for what, expected in (("doubtful", [2, 3, 4, 6]), ("changed", [0, 2, 4, 5, 6])):
        kept = Recording(tmp_path / what, what=what, most_mb=10, log=told.append)  # type: ignore[arg-type]
        for number, state in enumerate(states):
            kept.see(pixels(number), state, record(number, state))
        kept.close(30)
        assert [json.loads(line)["frame"] for line in kept.table.read_text().splitlines()] == expected
    small = Recording(tmp_path / "small", what="all", most_mb=0.01, log=told.append)
    for number in range(20):
        small.see(pixels(number), "red", record(number))
    small.close(30)
    assert small.is_full
    assert sum(path.stat().st_size for path in (tmp_path / "small" / "frames").iterdir()) <= 10_000
    assert [event["event"] for event in told] == ["recording full"]


def test_a_disk_that_refuses_costs_frames_and_not_the_line(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    kept = Recording(tmp_path / "kept", what="all", most_mb=10, log=told.append)
    (tmp_path / "kept" / "frames").rmdir()
    (tmp_path / "kept" / "frames").write_text("in the way")
    kept.see(RED, "red", record(0))
    until(lambda: kept.lost)
    kept.close(10)
    assert told[0]["event"] == "not recorded"
    with pytest.raises(InputError, match="no folder"):
        Recording(tmp_path / "kept" / "frames", what="all", most_mb=10, log=told.append)
