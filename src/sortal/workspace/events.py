"""What was asked and answered: appended, many at a time, and found again by request, image and time.

No pixels are in here; an event names its image by content. What people say about an answer later is `feedback`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sortal.core.errors import NotFoundError
from sortal.core.events import Event
from sortal.workspace.folder import Workspace

_PAGE = 1_000


def append_events(workspace: Workspace, events: Sequence[Event]) -> int:
    """Write all of them in one commit; returns how many were new. A request that is known already stays as it was."""
    rows = [
        (event.request_id, event.time, event.bundle_id, event.image_sha256, event.model_dump_json()) for event in events
    ]
    with workspace.database.change() as transaction:
        before = transaction.total_changes()
        transaction.executemany(
            "insert or ignore into events (request_id, time, bundle_id, image_sha256, body) values (?, ?, ?, ?, ?)",
            rows,
        )
        return int(transaction.total_changes() - before)


def event_of(workspace: Workspace, request_id: str) -> Event:
    """The event of a request. Raises NotFoundError where there is none."""
    row = workspace.database.one("select body from events where request_id = ?", (request_id,))
    if row is None:
        raise NotFoundError("no such request is known", where=str(workspace.path), received=request_id[:80])
    return Event.model_validate_json(row[0])


def events_since(workspace: Workspace, time: str = "", *, bundle: str | None = None) -> Iterator[Event]:
    """Events at or after `time` (ISO 8601, UTC), of one bundle or all, in the order they were written."""
    number = 0
    while True:
        rows = workspace.database.all(
            "select number, body from events where number > ? and time >= ? and (? is null or bundle_id = ?) "
            "order by number limit ?",
            (number, time, bundle, bundle, _PAGE),
        )
        for _, body in rows:
            yield Event.model_validate_json(body)
        if len(rows) < _PAGE:
            return
        number = rows[-1][0]


def count_events(workspace: Workspace) -> int:
    """How many there are."""
    row = workspace.database.one("select count(*) from events")
    return int(row[0]) if row else 0


def forget_events(workspace: Workspace, *, now: datetime | None = None) -> int:
    """Remove events older than the workspace's settings allow, but those that feedback refers to; returns how many."""
    days = workspace.settings.events_days
    if days is None:
        return 0
    oldest = ((now or datetime.now(UTC)) - timedelta(days=days)).isoformat(timespec="microseconds")
    with workspace.database.change() as transaction:
        before = transaction.total_changes()
        transaction.execute(
            "delete from events where time < ? and request_id not in "
            "(select request_id from feedback where request_id is not null)",
            (oldest,),
        )
        return int(transaction.total_changes() - before)
