"""What waits for a person: doubtful answers until somebody judged them, corrections until somebody else agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sortal import production
from sortal.core.events import Event
from sortal.workspace.deployment import promote
from sortal.workspace.events import append_events
from sortal.workspace.feedback import say_label
from sortal.workspace.folder import Workspace
from sortal.workspace.review import review_queue


def event(number: int, *, image: int | None = None, abstained: bool = False, label: str = "nut", **more: Any) -> Event:
    return Event(
        time=f"2026-01-01T00:00:{number:02d}.000000+00:00",
        request_id=f"part-{number}",
        bundle_id="b" * 64,
        image_sha256=f"{number if image is None else image:064x}",
        top=((label, 0.6),),
        abstained=abstained,
        **more,
    )


@pytest.fixture
def line(workspace: Workspace, make: Any) -> Workspace:
    promote(workspace, make(1))
    return workspace


def queue(line: Workspace, limit: int = 100) -> list[tuple[str, str]]:
    return [(item.reason, item.event.request_id) for item in review_queue(line, limit)]


def test_doubtful_answers_wait_until_somebody_says_something(line: Workspace) -> None:
    append_events(
        line, [event(1), event(2, abstained=True), event(3, abstained=True), event(4, image=2, abstained=True)]
    )
    append_events(line, [event(5, abstained=True, role="shadow")])
    assert queue(line) == [("doubtful", "part-4"), ("doubtful", "part-3")]
    assert queue(line, 1) == [("doubtful", "part-4")]
    say_label(line, "nut", request_id="part-3")
    assert queue(line) == [("doubtful", "part-4")]


def test_a_correction_waits_for_a_second_source_and_a_dispute_stays(line: Workspace) -> None:
    append_events(line, [event(1), event(2), event(3)])
    say_label(line, "nut", request_id="part-1", source="ann")
    say_label(line, "Schraube", request_id="part-2", source="ann")
    say_label(line, "Schraube", request_id="part-2", source="ann")
    say_label(line, "垫圈", request_id="part-3", source="ann")
    assert queue(line) == [("corrected", "part-2"), ("corrected", "part-3")]
    say_label(line, "Schraube", request_id="part-2", source="ben")
    say_label(line, "nut", request_id="part-3", source="ben")
    assert queue(line) == [("disputed", "part-3")]
    [item] = review_queue(line, 10)
    assert item.said == ("垫圈", "nut")


def test_images_that_nobody_asked_about_are_not_listed(line: Workspace) -> None:
    say_label(line, "nut", image_sha256="1" * 64)
    say_label(line, "Schraube", image_sha256="1" * 64)
    assert queue(line) == []


def test_the_report_lists_them(line: Workspace) -> None:
    assert production.review(line.path).body["summary"] == ["No image waits for a person."]
    append_events(line, [event(1, abstained=True)])
    report = production.review(Path(line.path))
    assert report.body["summary"] == ["1 image waits for a person."]
    assert report.tables["review"].rows[0][1:4] == ("doubtful", "nut", 0.6)
    append_events(line, [event(number, abstained=True) for number in (2, 3)])
    assert production.review(line.path, last=3).body["summary"] == ["3 images wait for a person."]
    report = production.review(line.path, last=2)
    assert report.body["summary"] == ["More than 2 images wait for a person."]
    assert len(report.tables["review"].rows) == 2
