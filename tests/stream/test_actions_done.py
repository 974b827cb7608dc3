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

from sortal.core.errors import InputError, MachineError
from sortal.data.decode import decode
from sortal.data.open import images
from sortal.stream.actions import MOST_WAITING, Action, check_names, close_all, deed_of, wanted
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
def receiver(*statuses: int, port: int = 0, location: str = "") -> Iterator[tuple[int, list[tuple[str, str, Any]]]]:
    """A server that answers with these statuses, the last one for ever, and keeps what it was sent."""
    got: list[tuple[str, str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.path, self.headers.get("Authorization", ""), body))
            self.send_response(statuses[min(len(got), len(statuses)) - 1])
            self.send_header("Content-Length", "0")
            if location:
                self.send_header("Location", location)
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
        close_all([action], 5)
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
        close_all([action], 5)
    assert len(got) == 5
    assert [event["message"] for event in told] == ["answered with status 404"]


def test_a_server_that_is_down_holds_nobody_up_and_gets_the_newest_when_it_is_back() -> None:
    told: list[dict[str, Any]] = []
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    action = Action("crack", deed_of(wanted(f"crack=POST http://127.0.0.1:{port}/")), told.append)
    for number in range(1000):
        action.see(change(number=number))
    assert action.dropped >= 1000 - MOST_WAITING - 1  # nobody waited: one is tried, some wait, the others made room
    assert [event["event"] for event in told] == ["action behind"]
    with receiver(200, port=port) as (_, got):
        until(lambda: action.done >= MOST_WAITING)
        close_all([action], 30)
    assert got[-1][2]["frame"] == 999
    assert action.dropped == 1000 - len(got)
    assert MOST_WAITING <= len(got) <= MOST_WAITING + 1
    assert action.counts == {
        "name": "crack", "action": f"POST http://127.0.0.1:{port}/", "done": len(got), "failed": 0,
        "dropped": action.dropped,
    }  # fmt: skip


class Blocked:
    """A deed that begins, and ends when it is let go."""

    shown = "BLOCK"

    def __init__(self) -> None:
        self.begun, self.let_go, self.is_closed = threading.Event(), threading.Event(), threading.Event()

    def wants(self, change: Change) -> bool:
        return True

    def do(self, change: Change, is_over: threading.Event) -> str | None:
        self.begun.set()
        self.let_go.wait(PATIENCE_S)
        return None

    def close(self) -> None:
        self.is_closed.set()


def test_the_end_waits_for_no_deed_and_for_several_no_longer_than_for_one() -> None:
    deeds = [Blocked() for _ in range(20)]
    actions = [Action("crack", deed, lambda _: None) for deed in deeds]
    for action, deed in zip(actions, deeds, strict=True):
        for _ in range(5):
            action.see(change())
        assert deed.begun.wait(PATIENCE_S)
    close_all(actions, 0.1)
    assert [action.done for action in actions] == [0] * 20
    assert [action.dropped for action in actions] == [4] * 20  # what waited; the first is under way still
    for deed in deeds:
        deed.let_go.set()
    assert all(deed.is_closed.wait(PATIENCE_S) for deed in deeds)


def test_all_actions_may_do_what_waits_in_the_time_there_is() -> None:
    deeds = [Blocked() for _ in range(3)]
    actions = [Action("crack", deed, lambda _: None) for deed in deeds]
    for action in actions:
        action.see(change())
        action.see(change())
    assert deeds[0].begun.wait(PATIENCE_S)
    closing = threading.Thread(target=close_all, args=(actions, PATIENCE_S))
    closing.start()
    for deed in reversed(deeds):  # the last one is not kept until the first is done
        deed.let_go.set()
        assert deed.is_closed.wait(PATIENCE_S)
    closing.join()
    assert [(action.done, action.dropped) for action in actions] == [(2, 0)] * 3


def test_a_deed_that_raises_anything_fails_and_the_next_is_done() -> None:
    told: list[dict[str, Any]] = []

    class Driver(Blocked):
        def do(self, change: Change, is_over: threading.Event) -> str | None:
            if change.record["frame"] == 1:
                raise ZeroDivisionError("a driver of strangers")
            return None

    action = Action("crack", Driver(), told.append)
    action.see(change(number=1))
    action.see(change(number=2))
    close_all([action], PATIENCE_S)
    assert (action.failed, action.done, action.dropped) == (1, 1, 0)
    assert told[0]["message"] == "ZeroDivisionError"


def test_what_a_webhook_says_holds_no_secret_and_can_be_read() -> None:
    over = threading.Event()
    over.set()  # it is tried once
    deed = deed_of(wanted("crack=POST http://admin:geheim@127.0.0.1:9/?key=verborgen&channel=1"))
    assert deed.do(change(), over) == "no answer: Connection refused; the stream ended before it could be tried again"
    assert deed.shown == "POST http://***@127.0.0.1:9/?key=***&channel=***"
    with receiver(503) as (port, got):
        deed = deed_of(wanted(f"crack=POST http://admin:geheim@127.0.0.1:{port}/?status=503&code=5"))
        said = deed.do(change(), over)
    assert said == "answered with status ***; the stream ended before it could be tried again"
    assert got[0][0] == "/?status=503&code=5"


def test_a_redirect_is_not_followed() -> None:
    with receiver(200) as (port, got), receiver(307, location=f"http://127.0.0.1:{port}/") as (first, asked):
        said = deed_of(wanted(f"crack=POST http://127.0.0.1:{first}/")).do(change(), threading.Event())
    assert said == "answered with status 307"
    assert (len(asked), got) == (1, [])


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
    close_all([action], 10)
    assert line.read_text().split() == ["1", "0", "1", "0"]
    told: list[dict[str, Any]] = []
    broken = Action("crack", deed_of(wanted(f"crack=SET simulated:{tmp_path}/no/such/folder")), told.append)
    broken.see(change())
    until(lambda: told)
    close_all([broken], 1)
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


def test_what_another_run_left_unfinished_costs_no_line_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for text, before in ((b"", []), (b'{"frame": 1}\n', [1]), (b'{"frame": 1}\n{"fra', [1])):
        path.write_bytes(text)
        outlet = outlet_to(path)
        outlet.put({"frame": 2})
        assert outlet.close(30)
        lines = path.read_text().splitlines()
        whole = [json.loads(line)["frame"] for line in lines if line.endswith("}")]
        assert whole == [*before, 2]


def test_a_descriptor_that_never_waits_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    outlet = Outlet(writing, most=5000)
    for number in range(5000):
        outlet.put({"frame": number, "padding": "x" * 80})
    until(lambda: outlet.written)
    with os.fdopen(reading, "rb") as file:
        got = [json.loads(file.readline())["frame"] for _ in range(5000)]
    assert got == list(range(5000))
    assert outlet.close(30)
    assert (outlet.dropped, outlet.trouble) == (0, "")
    os.close(writing)


def test_a_pipe_with_a_name_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MachineError, match="cannot be written"):
        outlet_to(tmp_path / "pipe")


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


def test_a_full_disk_is_told_once_and_leaves_a_table_that_can_be_read(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    kept = Recording(tmp_path / "kept", what="all", most_mb=10, log=told.append)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for number in range(4):
            kept.see(RED, "red", record(number))
        until(lambda: kept.kept == 4)
        size = kept.table.stat().st_size
        assert size > len(RED)  # an image fits where a line more does not
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limit[1]))
        for number in (4, 5, 6):
            kept.see(RED, "red", record(number))
        until(lambda: kept.lost == 3)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        kept.see(GREEN, "red", record(7))
        until(lambda: kept.kept == 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
        kept.close(30)
    assert [json.loads(line)["frame"] for line in kept.table.read_text().splitlines()] == [0, 1, 2, 3, 7]
    assert len(list((tmp_path / "kept" / "frames").iterdir())) == 5
    assert [event["event"] for event in told] == ["not recorded", "recorded again"]


def test_a_camera_whose_name_is_no_text_is_recorded(tmp_path: Path) -> None:
    kept = Recording(tmp_path / "kept", what="all", most_mb=10, log=lambda _: None)
    kept.see(RED, "red", record(0) | {"camera": os.fsdecode(b"line \xff")})
    kept.close(30)
    assert kept.kept == 1
    assert json.loads(kept.table.read_text())["camera"] == "line \udcff"
