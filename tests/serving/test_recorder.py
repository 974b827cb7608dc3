"""What a workspace remembers of a server when its disk refuses, is slow, or is asked while it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sortal.core.bundle import open_bundle
from sortal.core.errors import MachineError, NotFoundError
from sortal.core.events import Event
from sortal.serve import recorder as recorders
from sortal.serve.recorder import Recorder
from sortal.serve.settings import ServeSettings
from sortal.workspace.deployment import promote
from sortal.workspace.events import append_events, events_since
from sortal.workspace.feedback import say_label
from sortal.workspace.folder import IMAGES, Settings, Workspace, change_settings, create_workspace
from sortal.workspace.images import keep_image, read_image

DESCRIPTION = {"bundle_id": "b" * 64, "labels": ["red", "green"]}
ANSWER = {"top": [(0, 0.9), (1, 0.1)], "abstained": False}


@pytest.fixture
def line(bundles: tuple[Path, Path], tmp_path: Path) -> Iterator[Workspace]:
    with create_workspace(tmp_path / "line4") as workspace:
        promote(workspace, open_bundle(bundles[0]))
        yield workspace


def made(line: Workspace) -> tuple[Recorder, list[dict[str, Any]]]:
    told: list[dict[str, Any]] = []
    return Recorder(line, ServeSettings(keep="all"), told.append), told


def note(recorder: Recorder, name: str, data: bytes) -> None:
    recorder.note(name, [data], [ANSWER], DESCRIPTION, milliseconds=1.0)


def test_an_image_that_cannot_be_kept_costs_no_event_and_no_other_image(line: Workspace) -> None:
    recorder, told = made(line)
    note(recorder, "part-1", b"first")
    note(recorder, "part-2", b"second")
    folder = line.path / IMAGES / sha256(b"first").hexdigest()[:2]
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("no folder")
    asyncio.run(recorder.stop())
    assert recorder.lost == 0
    assert [event.request_id for event in events_since(line)] == ["part-1", "part-2"]
    assert read_image(line, sha256(b"second").hexdigest()) == b"second"
    assert [(one["event"], one["images"]) for one in told] == [("not kept", 1)]


def test_images_that_wait_for_the_disk_take_no_more_memory_than_is_allowed(
    line: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "_MOST_WAITING_BYTES", 10)
    recorder, told = made(line)

    async def story() -> None:
        for round_ in range(2):  # what was written makes room again
            for number in range(4):
                note(recorder, f"part-{round_}-{number}", b"%d-%d " % (round_, number))
            await recorder.review(1)

    asyncio.run(story())
    assert len(list(events_since(line))) == 8
    for name, kept in ((b"0-0 ", True), (b"0-1 ", True), (b"0-2 ", False), (b"1-1 ", True), (b"1-3 ", False)):
        if kept:
            assert read_image(line, sha256(name).hexdigest()) == name
        else:
            with pytest.raises(NotFoundError):
                read_image(line, sha256(name).hexdigest())
    assert [(one["event"], one["images"]) for one in told] == [("not kept", 2)] * 2
    assert recorder.lost == 0


def test_what_is_just_being_written_can_be_spoken_about(line: Workspace) -> None:
    """So many events take a while to be written."""
    recorder, _ = made(line)

    async def story() -> None:
        for number in range(18_000):
            note(recorder, f"part-{number}", b"first")
        writing = asyncio.create_task(recorder.review(1))
        await asyncio.sleep(0)
        stored = await recorder.say({"request_id": "part-17999", "label": "green"})
        assert stored.statement.image_sha256 == sha256(b"first").hexdigest()
        await writing

    asyncio.run(story())


def test_events_wait_for_a_disk_that_refuses_and_no_label_is_acknowledged(line: Workspace) -> None:
    recorder, told = made(line)

    async def story() -> None:
        with full_disk(line):
            note(recorder, "part-1", b"first")
            with pytest.raises(MachineError, match="the disk is full"):
                await recorder.say({"request_id": "part-1", "label": "green", "comment": "x" * 500})
            note(recorder, "part-2", b"second")
            await recorder.review(1)
            assert recorder.waiting == 2
        stored = await recorder.say({"request_id": "part-1", "label": "green"})
        assert stored.outcome == "new"

    asyncio.run(story())
    assert of_parts(line) == ["part-1", "part-2"]
    assert (recorder.waiting, recorder.lost) == (0, 0)
    assert [one["event"] for one in told if one["event"] != "not kept"] == ["not recorded", "recorded again"]


def test_what_the_disk_refuses_to_the_end_is_counted(line: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "_MOST_WAITING", 3)
    recorder, told = made(line)
    with full_disk(line):
        for number in range(5):
            note(recorder, f"part-{number}", b"first")
        asyncio.run(recorder.stop())
    assert recorder.lost == 5
    assert [one["events"] for one in told if one["event"] == "lost"] == [3]
    assert of_parts(line) == []


def test_an_image_without_room_is_told(line: Workspace) -> None:
    labelled = keep_image(line, b"labelled")
    say_label(line, "green", image_sha256=labelled)
    small = change_settings(line, Settings(images_mb=len(b"labelled") / 1e6))
    recorder, told = made(small)
    note(recorder, "part-1", b"another one")
    asyncio.run(recorder.stop())
    assert [(one["event"], one["images"]) for one in told] == [("not kept", 1)]
    assert "raise images_mb" in told[0]["reason"]


@contextmanager
def full_disk(line: Workspace) -> Iterator[None]:
    """The database may not grow by a page, as where its disk is full."""
    [pages] = line.database.one("pragma page_count") or ()
    line.database.one(f"pragma max_page_count = {pages}")
    fill(line)
    try:
        yield
    finally:
        line.database.one("pragma max_page_count = 1073741823")


def fill(line: Workspace) -> None:
    """Take what room there is in pages that are not full."""
    filler = Event(time="", request_id="", bundle_id="b" * 64, image_sha256="a" * 64, top=(("red", 0.9),))
    for write in (
        lambda name: say_label(line, "green", image_sha256="a" * 64, key=name),
        lambda name: append_events(line, [filler.model_copy(update={"request_id": name})]),
    ):
        with suppress(MachineError):
            for number in range(1_000):
                write(f"filler-{number}")


def of_parts(line: Workspace) -> list[str]:
    return [event.request_id for event in events_since(line) if event.request_id.startswith("part")]
