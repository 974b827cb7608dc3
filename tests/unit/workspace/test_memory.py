"""What a workspace remembers: events, what people say, images. Nothing acknowledged is lost, nothing said twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, ConflictError, InputError, MachineError, NotFoundError
from sortal.core.events import Event
from sortal.workspace.deployment import promote
from sortal.workspace.events import append_events, count_events, event_of, events_since, forget_events
from sortal.workspace.feedback import disputed_images, say_label, statements, statements_about
from sortal.workspace.folder import IMAGES, Settings, Workspace, change_settings, open_workspace
from sortal.workspace.images import clear_images, image_path, keep_image, mark_kept, read_image, used_bytes

Maker = Callable[..., Bundle]


def event(number: int, bundle: str = "ab" * 32, *, when: str = "2026-11-30T08:00:00.000000+00:00") -> Event:
    return Event(
        time=when,
        request_id=f"request-{number}",
        bundle_id=bundle,
        image_sha256=sha256(str(number).encode()).hexdigest(),
        top=(("nut", 0.9), ("垫圈", 0.1)),
        latency_ms=1.5,
    )


def test_events_come_back_as_they_were_and_in_order(workspace: Workspace) -> None:
    events = [event(number) for number in range(2_500)]
    assert append_events(workspace, events) == 2_500
    assert list(events_since(workspace)) == events
    assert event_of(workspace, "request-77") == events[77]
    assert count_events(workspace) == 2_500
    with pytest.raises(NotFoundError, match="no such request"):
        event_of(workspace, "request-2500")


def test_a_request_is_known_once(workspace: Workspace) -> None:
    append_events(workspace, [event(1)])
    again = event(1).model_copy(update={"bundle_id": "cd" * 32})
    assert append_events(workspace, [again, event(2)]) == 1
    assert event_of(workspace, "request-1").bundle_id == "ab" * 32


def test_events_are_chosen_by_time_and_bundle(workspace: Workspace) -> None:
    late = event(2, "cd" * 32, when="2026-11-30T09:00:00.000000+00:00")
    append_events(workspace, [event(1), late])
    assert list(events_since(workspace, "2026-11-30T08:30")) == [late]
    assert list(events_since(workspace, bundle="ab" * 32)) == [event(1)]


def test_old_events_go_unless_somebody_spoke_about_them(workspace: Workspace, make: Maker) -> None:
    workspace = change_settings(workspace, Settings(events_days=10))
    bundle = make(1)
    promote(workspace, bundle)
    append_events(workspace, [event(1, bundle.id), event(2, bundle.id)])
    append_events(workspace, [event(3, bundle.id, when="2026-12-20T08:00:00.000000+00:00")])
    say_label(workspace, "nut", request_id="request-2")
    assert forget_events(workspace, now=datetime(2026, 12, 21, tzinfo=UTC)) == 1
    assert [one.request_id for one in events_since(workspace)] == ["request-2", "request-3"]


def test_a_label_is_stored_about_the_image_of_a_request(workspace: Workspace, make: Maker) -> None:
    bundle = make(1)
    promote(workspace, bundle)
    append_events(workspace, [event(1, bundle.id)])
    stored = say_label(workspace, "screw", request_id="request-1", source="Ada", comment="two\nlines, 垫圈 <b>")
    assert (stored.outcome, stored.disputed) == ("new", False)
    [statement] = statements_about(workspace, event(1).image_sha256)
    assert statement == stored.statement
    assert (statement.label, statement.comment) == ("Schraube", "two\nlines, 垫圈 <b>")


def test_a_statement_given_again_counts_once_also_at_the_same_time(workspace: Workspace, make: Maker) -> None:
    promote(workspace, make(1))
    image = "12" * 32

    def say(_: int) -> str:
        with open_workspace(workspace.path) as mine:
            return say_label(mine, "nut", image_sha256=image, key="k-1").outcome

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(say, range(50)))
    assert sorted(outcomes) == ["known"] * 49 + ["new"]
    assert len(statements(workspace)) == 1
    with pytest.raises(ConflictError, match="another statement"):
        say_label(workspace, "Schraube", image_sha256=image, key="k-1")


def test_people_who_disagree_are_all_heard(workspace: Workspace, make: Maker) -> None:
    promote(workspace, make(1))
    image = "12" * 32
    assert not say_label(workspace, "nut", image_sha256=image, source="Ada").disputed
    assert say_label(workspace, "垫圈", image_sha256=image, source="Grace").disputed
    say_label(workspace, "nut", image_sha256="34" * 32)
    assert disputed_images(workspace) == [image]
    assert [one.source for one in statements_about(workspace, image)] == ["Ada", "Grace"]


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"label": "nuts", "image_sha256": "12" * 32}, InputError, "no such class"),
        ({"label": "nut"}, InputError, "say which image"),
        ({"label": "nut", "image_sha256": "../../etc/passwd"}, InputError, "64 hex digits"),
        ({"label": "nut", "request_id": "' or 1=1 --"}, NotFoundError, "no such request"),
        ({"label": "nut", "request_id": "request-1", "image_sha256": "99" * 32}, ConflictError, "another image"),
        ({"label": "nut", "image_sha256": "12" * 32, "comment": "x" * 2_001}, InputError, "longer than"),
        ({"label": "nut", "image_sha256": "12" * 32, "comment": "a\x00b"}, InputError, "control characters"),
        ({"label": "nut", "image_sha256": "12" * 32, "source": "\x1b[31m"}, InputError, "control characters"),
        ({"label": "nut", "image_sha256": "12" * 32, "key": "a\nb"}, InputError, "printable ASCII"),
        ({"label": "nut", "image_sha256": "12" * 32, "key": ""}, InputError, "printable ASCII"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_stores_nothing(
    workspace: Workspace, make: Maker, arguments: dict[str, str], kind: type[Exception], said: str
) -> None:
    bundle = make(1)
    promote(workspace, bundle)
    append_events(workspace, [event(1, bundle.id)])
    with pytest.raises(kind, match=said):
        say_label(workspace, **arguments)
    assert statements(workspace) == []


def test_an_image_is_kept_once_and_read_back_whole(workspace: Workspace) -> None:
    name = keep_image(workspace, b"picture", suffix=".jpg")
    assert name == sha256(b"picture").hexdigest()
    assert keep_image(workspace, b"picture", suffix=".png") == name
    assert read_image(workspace, name) == b"picture"
    assert used_bytes(workspace) == 7
    image_path(workspace, name).write_bytes(b"Picture")
    with pytest.raises(BundleError, match="altered"):
        read_image(workspace, name)
    with pytest.raises(InputError, match="suffix"):
        keep_image(workspace, b"other", suffix="/../../x")


def test_room_is_made_by_the_oldest_without_a_label(workspace: Workspace, make: Maker) -> None:
    workspace = change_settings(workspace, Settings(images_mb=0.004))
    promote(workspace, make(1))
    names = [keep_image(workspace, bytes([number]) * 1_000, clock=lambda n=number: float(n)) for number in range(4)]
    say_label(workspace, "nut", image_sha256=str(names[0]))
    mark_kept(workspace, str(names[1]))
    new = keep_image(workspace, b"n" * 1_500, clock=lambda: 9.0)
    assert new is not None
    rows = {row[0] for row in workspace.database.all("select sha256 from images")}
    assert rows == {names[0], names[1], new}
    assert keep_image(workspace, b"x" * 2_500) is None
    assert keep_image(workspace, b"x" * 4_500) is None
    assert {path.name for path in (workspace.path / IMAGES).rglob("*") if path.is_file()} == rows


def test_old_images_and_leftovers_go(workspace: Workspace) -> None:
    workspace = change_settings(workspace, Settings(images_days=2))
    now = time.time()
    old = keep_image(workspace, b"old", clock=lambda: now - 3 * 86_400)
    new = keep_image(workspace, b"new", clock=lambda: now - 86_400)
    orphan = workspace.path / IMAGES / "ab" / ("ab" * 32)
    fresh = workspace.path / IMAGES / "ab" / ("ac" * 32)
    orphan.parent.mkdir(exist_ok=True)
    for path in (orphan, fresh):
        path.write_bytes(b"rest of a process that died")
    os.utime(orphan, (now - 7_200, now - 7_200))
    assert clear_images(workspace) == 2
    assert not orphan.exists()
    assert fresh.exists()
    assert read_image(workspace, str(new)) == b"new"
    with pytest.raises(NotFoundError):
        image_path(workspace, str(old))


def test_copies_can_be_made_while_others_write(workspace: Workspace, tmp_path: Path) -> None:
    append_events(workspace, [event(number) for number in range(500)])
    target = tmp_path / "copy.db"
    workspace.database.copy_to(target)
    append_events(workspace, [event(900)])
    from sortal.workspace.database import open_database

    copy = open_database(target)
    assert copy.one("select count(*) from events") == (500,)
    assert copy.one("pragma integrity_check") == ("ok",)
    copy.close()


def test_an_image_whose_file_somebody_took_is_told_and_kept_anew(workspace: Workspace) -> None:
    name = keep_image(workspace, b"picture", suffix=".png")
    assert name is not None
    image_path(workspace, name).unlink()
    with pytest.raises(MachineError, match="No such file"):
        read_image(workspace, name)
    assert keep_image(workspace, b"picture") == name
    assert read_image(workspace, name) == b"picture"
    assert used_bytes(workspace) == len(b"picture")


def test_what_cannot_be_removed_is_an_error_of_the_machine(workspace: Workspace) -> None:
    """Nothing that a disk does is a fault of the program: who writes beside the answers goes on."""
    name = keep_image(workspace, b"picture")
    assert name is not None
    path = image_path(workspace, name)
    path.unlink()
    path.mkdir()
    full = change_settings(workspace, Settings(images_mb=8 / 1e6))
    with pytest.raises(MachineError, match="the machine refused"):
        keep_image(full, b"another")
