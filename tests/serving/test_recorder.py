"""What a workspace remembers of a server when its disk refuses, is slow, or is asked while it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sortal.core.bundle import open_bundle
from sortal.core.errors import NotFoundError
from sortal.serve import recorder as recorders
from sortal.serve.recorder import Recorder
from sortal.serve.settings import ServeSettings
from sortal.workspace.deployment import promote
from sortal.workspace.events import events_since
from sortal.workspace.folder import IMAGES, Workspace, create_workspace
from sortal.workspace.images import read_image

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
