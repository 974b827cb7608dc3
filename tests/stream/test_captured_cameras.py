"""The capturing process and its keeper, with cameras on loopback that fail in every way."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cameras import BLUE, GREEN, HEAD, RED, Peer, camera, frames, jpeg, part, wait_for_the_other_side

from sortal.stream.camera import CONNECTING, LIVE, LOST, Camera, Lost
from sortal.stream.memory import new_memory
from sortal.stream.settings import StreamSettings
from sortal.stream.sources import Asked
from sortal.stream.sources.address import named
from sortal.stream.sources.folder import FOLDER

QUICK: dict[str, Any] = {"pause_s": 0.02, "stall_s": 1.0, "open_s": 20.0, "frame_mb": 1.0, "buffer": 4}


class Kept:
    """Takes frames at once and remembers everything."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.names: list[str | None] = []
        self.states: list[tuple[str, str]] = []
        self.events: list[dict[str, Any]] = []
        self.skipped = self.asked = 0
        self.is_full = False
        self.hold = False
        self._held: list[int] = []

    def take(self, message: dict[str, Any]) -> None:
        self.frames.append(self.memory.copied(message["slot"], message["size"]))
        self.names.append(message["name"])
        if not self.hold:
            self.camera.free(message["slot"])

    def skip(self, message: dict[str, Any]) -> None:
        self.skipped += 1

    @property
    def has_room(self) -> bool:
        self.asked += 1
        return not self.is_full

    def state_changed(self, state: str, reason: str) -> None:
        self.states.append((state, reason))

    def lost(self) -> list[str]:
        return [reason for state, reason in self.states if state == LOST]


async def _until(found: Callable[[], Any], limit_s: float = 60.0) -> None:
    async with asyncio.timeout(limit_s):
        while not found():
            await asyncio.sleep(0.01)


def watch(
    address: str,
    check: Callable[[Kept], Awaitable[None]],
    *,
    live: bool | None = None,
    once: bool = False,
    **limits: Any,
) -> tuple[Kept, Lost | None]:
    """Capture from an address until `check` is done, or the source has ended."""
    settings, source, kept = StreamSettings(**QUICK | limits), named(address), Kept()

    async def run() -> Lost | None:
        kept.memory = new_memory(settings.slots, int(settings.frame_mb * 2**20))
        is_live = source.source.live if live is None else live
        kept.camera = Camera(source, live=is_live, memory=kept.memory, settings=settings, log=kept.events.append)
        running = asyncio.create_task(kept.camera.run(kept, once=once))
        checking = asyncio.ensure_future(check(kept))
        await asyncio.wait({running, checking}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if checking.done():
                checking.result()
            return running.result() if running.done() else None
        finally:
            running.cancel()
            checking.cancel()
            await asyncio.gather(running, checking, return_exceptions=True)
            kept.memory.close()

    return kept, asyncio.run(run())


async def _for_ever(kept: Kept) -> None:
    await asyncio.sleep(3600)


def test_frames_arrive_as_the_camera_sent_them() -> None:
    async def check(kept: Kept) -> None:
        await _until(lambda: len(kept.frames) >= 3)

    with camera(frames([RED, GREEN, BLUE], then="stall")) as fake:
        kept, _ = watch(fake.url(), check)
    assert kept.frames[:3] == [RED, GREEN, BLUE]
    assert kept.states[0] == (LIVE, "")
    assert kept.events[0]["size"] == (64, 48)


def test_parts_without_a_length_end_at_the_boundary() -> None:
    def serve(peer: socket.socket, number: int) -> None:
        body = b"".join(b"--cut\r\nContent-Type: image/jpeg\r\n\r\n" + one + b"\r\n" for one in (RED, GREEN, BLUE))
        peer.sendall(HEAD)
        for start in range(0, len(body), 7):  # in crumbs: a boundary may come in two pieces
            peer.sendall(body[start : start + 7])
        peer.sendall(b"--cut--\r\n")

    async def check(kept: Kept) -> None:
        await _until(kept.lost)

    with camera(serve) as fake:
        kept, _ = watch(fake.url(), check)
    assert kept.frames[:3] == [RED, GREEN, BLUE]


def test_a_camera_that_stalls_is_found_and_its_process_replaced() -> None:
    pids: list[int] = []

    async def check(kept: Kept) -> None:
        for number in range(2):
            await _until(lambda number=number: len(kept.frames) > number)
            assert kept.camera.pid is not None
            pids.append(kept.camera.pid)

    with camera(frames([RED], then="stall")) as fake:
        kept, _ = watch(fake.url(), check)
        assert len(fake.asked) == 2
    assert kept.states == [(LIVE, ""), (LOST, "stalled"), (CONNECTING, ""), (LIVE, "")]
    assert pids[0] != pids[1]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_capture_that_is_blocked_is_killed_while_the_loop_runs_on() -> None:
    ticks: list[int] = []

    async def check(kept: Kept) -> None:
        async def tick() -> None:
            while True:
                ticks.append(len(kept.lost()))
                await asyncio.sleep(0.02)

        await _until(lambda: len(kept.frames) >= 3)
        blocked = kept.camera.pid
        assert blocked is not None
        os.kill(blocked, signal.SIGSTOP)  # as a read() in a driver that never returns
        ticking = asyncio.create_task(tick())
        await _until(kept.lost)
        count = len(kept.frames)
        await _until(lambda: len(kept.frames) >= count + 3)
        ticking.cancel()
        assert not Path(f"/proc/{blocked}").exists()

    with camera(frames([RED, GREEN] * 200)) as fake:
        kept, _ = watch(fake.url(), check)
    assert kept.lost() == ["stalled"]
    assert ticks.count(0) > 5  # while nothing was known of it; a loop that waits for the child ticks once


def test_a_camera_of_which_few_frames_are_taken_is_not_lost_between_them() -> None:
    async def check(kept: Kept) -> None:
        await _until(lambda: len(kept.frames) >= 2)

    kept, _ = watch("simulated:size=64x64,fps=20,parts=1", check, fps=0.4, stall_s=1.0)
    assert kept.lost() == []
    assert kept.camera.starts == 1


def test_what_becomes_free_while_a_capture_is_replaced_is_free_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = asyncio.create_subprocess_exec
    kept_back: list[Kept] = []

    async def begun(*arguments: Any, **options: Any) -> Any:
        process = await begin(*arguments, **options)
        for kept in kept_back:
            for slot in range(7):
                kept.camera.free(slot)
        return process

    async def check(kept: Kept) -> None:
        kept.hold = True
        await _until(lambda: len(kept.frames) == 7)
        kept_back.append(kept)
        os.kill(kept.camera.pid or 0, signal.SIGKILL)
        await _until(lambda: len(kept.frames) == 14, 20)

    monkeypatch.setattr("sortal.stream.camera.asyncio.create_subprocess_exec", begun)
    watch("simulated:size=64x64,fps=50,parts=1", check)


def test_files_without_an_image_wait_for_room(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.jpg").mkdir()
    waiting: list[int] = []

    async def check(kept: Kept) -> None:
        kept.is_full = True
        await _until(lambda: kept.asked >= 10)
        waiting.append(kept.skipped)
        kept.is_full = False
        await _for_ever(kept)

    kept, lost = watch(str(tmp_path), check, once=True)
    assert waiting == [0]
    assert (lost, kept.skipped) == (None, 30)


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (frames([RED]), "ended"),
        (lambda peer, _: peer.sendall(HEAD + part(RED) + part(RED)[:200]), "half"),
        (lambda peer, _: peer.sendall(HEAD + b"\0" * 200_000), "garbage"),
        (lambda peer, _: peer.sendall(HEAD + part(RED, length=10**9)), "garbage"),
        (lambda peer, _: peer.sendall(b"\xff" * 1000), "connection"),
        (lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000), "connection"),
        (lambda peer, _: peer.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), "refused"),
        (lambda peer, _: peer.sendall(b"HTTP/1.1 302 Go\r\nLocation: file:///etc/passwd\r\n\r\n"), "status"),
        (lambda peer, _: None, "connection"),
    ],
    ids=["end", "half", "zeros", "huge", "noise", "long header", "401", "redirect", "nothing"],
)
def test_every_way_to_fail_is_a_state_and_is_tried_again(peer: Peer, reason: str) -> None:
    async def check(kept: Kept) -> None:
        await _until(lambda: kept.camera.losses >= 2)

    with camera(peer) as fake:
        kept, _ = watch(fake.url(), check)
    assert kept.lost()[:2] == [reason, reason]
    told = [event for event in kept.events if event["event"] == "camera lost"]
    assert told[0]["message"]


def test_a_name_that_nobody_knows_is_said_and_pauses_grow() -> None:
    async def check(kept: Kept) -> None:
        await _until(lambda: kept.camera.losses >= 4)

    kept, _ = watch("http://no-such-camera.invalid/x", check)
    told = [event for event in kept.events if event["event"] == "camera lost"]
    assert {event["reason"] for event in told} == {"name"}
    for number, event in enumerate(told[:4]):
        longest = QUICK["pause_s"] * 2**number
        assert longest / 2 - 0.01 <= event["again_in_s"] <= longest + 0.01


def test_pauses_end_at_thirty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    class Refused(Camera):
        async def _captured(self, taker: Any) -> tuple[Lost | None, int]:
            return Lost(reason="connection", what="x"), 0

    async def sleep(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 40:
            raise asyncio.CancelledError

    monkeypatch.setattr("sortal.stream.camera.asyncio.sleep", sleep)
    made = Refused(
        named("http://h/x"),
        live=True,
        memory=None,
        settings=StreamSettings(pause_s=0.5),
        log=lambda _: None,  # type: ignore[arg-type]
    )
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(made.run(Kept()))
    assert max(paused) <= 30.0
    assert min(paused[10:]) >= 15.0
    assert len(set(paused[10:])) > 20  # jitter: lines do not come back together


def test_a_camera_may_change_its_resolution() -> None:
    small, large = jpeg((9, 9, 200), (32, 32)), jpeg((9, 9, 200), (640, 480))

    async def check(kept: Kept) -> None:
        await _until(lambda: len(kept.frames) >= 4)

    with camera(frames([small, small, large, large], then="stall")) as fake:
        kept, _ = watch(fake.url(), check)
    changed = [event for event in kept.events if event["event"] == "camera size"]
    assert [(event["before"], event["size"]) for event in changed] == [((32, 32), (640, 480))]
    assert kept.frames[2] == large


def test_a_frame_that_is_too_large_is_skipped_and_told() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (1200, 1200, 3)).astype(np.uint8).tobytes()

    async def check(kept: Kept) -> None:
        await _until(lambda: kept.skipped >= 1 and len(kept.frames) >= 2)

    with camera(frames([RED, RED[:2] + noise, GREEN], then="stall")) as fake:
        kept, _ = watch(fake.url(), check)
    assert kept.frames[:2] == [RED, GREEN]
    assert kept.lost() == []


def test_who_takes_nothing_makes_the_camera_drop_and_not_wait() -> None:
    sent: list[int] = []
    large = jpeg((9, 200, 9), (1600, 1200)) + bytes(500_000)  # more of them than the buffers of a connection hold

    def serve(peer: socket.socket, number: int) -> None:
        peer.sendall(HEAD)
        for count in range(60):
            peer.sendall(part(large))
            sent.append(count)
        wait_for_the_other_side(peer)

    async def check(kept: Kept) -> None:
        kept.hold = True
        await _until(lambda: len(sent) == 60)
        assert len(kept.frames) == 7  # as many as there are slots; the others were gone when they came

    with camera(serve) as fake:
        kept, _ = watch(fake.url(), check)
    assert kept.camera.starts == 1
    assert kept.lost() == []


def test_the_password_reaches_the_camera_and_nobody_else() -> None:
    lines: list[str] = []

    async def check(kept: Kept) -> None:
        await _until(lambda: kept.frames)
        folder = Path(f"/proc/{kept.camera.pid}")
        lines.append((folder / "cmdline").read_text() + (folder / "environ").read_text())
        await _until(kept.lost)

    with camera(frames([RED])) as fake:
        kept, _ = watch(fake.url("admin:geheim@", "?token=verborgen"), check)
        assert b"Authorization: Basic YWRtaW46Z2VoZWlt" in fake.asked[0]
        assert b"GET /video?token=verborgen " in fake.asked[0]
    for secret in ("geheim", "verborgen", "YWRtaW46Z2VoZWlt"):
        assert secret not in lines[0] + str(kept.events) + str(kept.states)


@pytest.mark.slow
def test_a_hundred_reconnects_leave_nothing_behind() -> None:
    counted: list[tuple[int, int, int]] = []

    def count() -> tuple[int, int, int]:
        children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(children)

    async def check(kept: Kept) -> None:
        for goal in (10, 100):
            await _until(lambda goal=goal: kept.camera.losses >= goal, 300)
            counted.append(count())

    with camera(frames([RED], every_s=0.0)) as fake:
        kept, _ = watch(fake.url(), check, pause_s=0.001)
    assert len(kept.frames) >= 90
    (fds, _, children), (later_fds, _, later_children) = counted
    assert abs(later_fds - fds) <= 4
    assert later_children <= max(children, 1)


def test_a_folder_gives_whole_files_in_order_once(tmp_path: Path) -> None:
    def place(name: str, data: bytes) -> None:
        (tmp_path / f".{name}").write_bytes(data)
        (tmp_path / f".{name}").rename(tmp_path / name)

    for number, data in enumerate((RED, GREEN)):
        place(f"{number}.jpg", data)
        os.utime(tmp_path / f"{number}.jpg", (1000 + number, 1000 + number))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")

    async def check(kept: Kept) -> None:
        await _until(lambda: len(kept.frames) == 2)
        place("2.jpg", BLUE)
        await _until(lambda: len(kept.frames) == 3)
        place("2.jpg", RED + b"\0")  # written anew: another picture
        await _until(lambda: len(kept.frames) == 4)
        place("3.jpg", GREEN)
        await _until(lambda: len(kept.frames) == 5)  # and none of the others again

    kept, _ = watch(str(tmp_path), check, stall_s=1.0)
    assert kept.names == ["0.jpg", "1.jpg", "2.jpg", "2.jpg", "3.jpg"]
    assert kept.frames == [RED, GREEN, BLUE, RED + b"\0", GREEN]
    assert kept.lost() == []  # nothing new is no stall


def test_a_file_that_is_being_written_is_left_alone_until_it_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten looks a second, by a clock that the test turns."""
    path, now_s, given = tmp_path / "slow.jpg", [1e6], []

    def slept(seconds: float) -> None:
        now_s[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now_s[0], time_ns=lambda: int(now_s[0] * 1e9), sleep=slept)
    monkeypatch.setattr("sortal.stream.sources.folder.time", clock)
    shots = FOLDER.shots(str(tmp_path), Asked(live=False))
    for written in range(100, len(BLUE) + 100, 100):  # a piece at each look
        path.write_bytes(BLUE[:written])
        os.utime(path, ns=(int(now_s[0] * 1e9), int(now_s[0] * 1e9)))
        given.append(next(shots))
    assert given == [None] * len(given)
    rests_s = now_s[0]
    while (shot := next(shots)) is None:
        assert now_s[0] < rests_s + 1.0
    assert (shot.name, shot.size) == ("slow.jpg", len(BLUE))


def test_a_folder_is_never_overtaken_and_ends_when_asked(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.jpg").write_bytes(RED)

    async def check(kept: Kept) -> None:
        kept.hold = True
        await _until(lambda: len(kept.frames) == 7)
        await asyncio.sleep(1.5)  # longer than a stall: the child waits for memory, and is let wait
        kept.hold = False
        for slot in range(7):
            kept.camera.free(slot)
        await _for_ever(kept)

    kept, lost = watch(str(tmp_path), check, once=True)
    assert lost is None
    assert kept.names == [f"{number:02d}.jpg" for number in range(40)]
    assert kept.camera.starts == 1


def test_a_capture_that_dies_answers_no_file_twice_and_loses_none(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.jpg").write_bytes(RED)

    async def check(kept: Kept) -> None:
        kept.hold = True
        await _until(lambda: len(kept.frames) == 7)  # it waits for memory
        os.kill(kept.camera.pid or 0, signal.SIGKILL)
        await _until(kept.lost)
        kept.hold = False
        for slot in range(7):
            kept.camera.free(slot)
        await _for_ever(kept)

    kept, lost = watch(str(tmp_path), check, once=True)
    assert lost is None
    assert kept.lost() == ["died"]
    assert kept.names == [f"{number:02d}.jpg" for number in range(30)]


def test_the_end_of_a_source_loses_none_of_its_frames(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(RED)
    (tmp_path / "b.jpg").write_bytes(GREEN)
    for _ in range(10):
        kept, lost = watch(str(tmp_path), _for_ever, once=True)
        assert lost is None
        assert (kept.names, kept.lost()) == (["a.jpg", "b.jpg"], [])


def test_a_folder_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()

    async def check(kept: Kept) -> None:
        await _until(lambda: kept.camera.pid is not None)
        folder.rmdir()
        await _until(kept.lost)
        folder.mkdir()
        (folder / "a.jpg").write_bytes(RED)
        await _until(lambda: kept.frames)

    kept, _ = watch(str(folder), check)
    assert kept.lost()[0] == "folder"


def test_planted_faults_of_the_simulated_camera_come(bundle: Path) -> None:
    async def check(kept: Kept) -> None:
        await _until(lambda: kept.camera.losses >= 1)

    faults = "garbage@3,half@5,size@7,end@10"
    kept, _ = watch(f"simulated:size=64x64,fps=50,parts=2,{faults}", check)
    assert [len(data) for data in kept.frames[:10]] == [
        *(12301,) * 3, 1026, 12301, 6150, 12301, *(3085,) * 3,
    ]  # fmt: skip
    assert kept.lost() == ["ended"]

    async def blocked(kept: Kept) -> None:
        await _until(kept.lost)

    kept, _ = watch("simulated:size=64x64,fps=50,parts=1,block@3", blocked)
    assert (len(kept.frames), kept.lost()) == (3, ["stalled"])
