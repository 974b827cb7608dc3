"""Images that wait for a person: what was left to one, and corrections that nobody has confirmed yet.

A doubtful answer leaves the queue when somebody has said what the image shows; a correction when a second source says
the same, so that one person's slip is not learned. Images about which people disagree stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from sortal.core.events import Event
from sortal.workspace.feedback import disputed_images, statements_about
from sortal.workspace.folder import Workspace

Reason = Literal["disputed", "corrected", "doubtful"]
LOOKED_AT = 100_000
"""Of the last events; doubtful ones further back are not listed."""

_ANSWERED = "coalesce(json_extract(body, '$.role'), 'live') <> 'shadow'"
"""A shadow's answers went to nobody."""


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """One image with its last answer, and what people said about it (labels in their order, each once)."""

    image_sha256: str
    reason: Reason
    event: Event
    said: tuple[str, ...] = ()


def review_queue(workspace: Workspace, limit: int) -> list[ReviewItem]:
    """The first `limit` items: disputed images, then corrected ones, then doubtful ones, the newest of these first."""
    return list(islice(_items(workspace, limit), limit))


def _items(workspace: Workspace, limit: int) -> Iterator[ReviewItem]:
    disputed = disputed_images(workspace)
    for image in disputed:
        yield from _said(workspace, image, "disputed")
    for image in _corrected(workspace, limit):
        yield from _said(workspace, image, "corrected")
    for event in _doubtful(workspace, limit):
        yield ReviewItem(image_sha256=event.image_sha256, reason="doubtful", event=event)


def _said(workspace: Workspace, image: str, reason: Reason) -> Iterator[ReviewItem]:
    """The image with what was said about it, where it was ever asked."""
    event = _last_event(workspace, image)
    if event is not None:
        said = tuple(dict.fromkeys(one.label for one in statements_about(workspace, image)))
        yield ReviewItem(image_sha256=image, reason=reason, event=event, said=said)


def _corrected(workspace: Workspace, limit: int) -> list[str]:
    """Images with one label, said by one source, that is not the last answer."""
    rows = workspace.database.all(
        "select said.image_sha256 from (select image_sha256, min(label) as label, min(number) as first from feedback "
        "group by image_sha256 having count(distinct label) = 1 and count(distinct source) = 1) as said "
        "where said.label <> (select json_extract(body, '$.top[0][0]') from events "
        f"where image_sha256 = said.image_sha256 and {_ANSWERED} order by number desc limit 1) "
        "order by said.first limit ?",
        (limit,),
    )
    return [row[0] for row in rows]


def _last_event(workspace: Workspace, image: str) -> Event | None:
    row = workspace.database.one(
        f"select body from events where image_sha256 = ? and {_ANSWERED} order by number desc limit 1", (image,)
    )
    return None if row is None else Event.model_validate_json(row[0])


def _doubtful(workspace: Workspace, limit: int) -> Iterator[Event]:
    """The last answer to each image that was left to a person and about which nobody said anything."""
    rows = workspace.database.all(
        "select max(number), body from events where number > (select coalesce(max(number), 0) from events) - ? "
        f"and json_extract(body, '$.abstained') and {_ANSWERED} "
        "and image_sha256 not in (select image_sha256 from feedback) "
        "group by image_sha256 order by 1 desc limit ?",
        (LOOKED_AT, limit),
    )
    return (Event.model_validate_json(row[1]) for row in rows)
