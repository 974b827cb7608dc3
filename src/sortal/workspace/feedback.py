"""What people say an image really shows: one row for each statement, none overwritten, each given once.

A statement has a key, so that a client that repeats itself after a lost answer is not counted twice. People who
disagree about an image are all kept, and the image is in dispute until somebody decides.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sortal.core.errors import ConflictError, InputError, NotFoundError, nearest
from sortal.core.labels import LabelSet
from sortal.workspace.bundles import stored_bundle
from sortal.workspace.deployment import deployment
from sortal.workspace.events import event_of
from sortal.workspace.folder import Workspace

LONGEST_COMMENT = 2_000
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A label that somebody gave an image."""

    key: str
    time: str
    image_sha256: str
    request_id: str | None
    label: str
    source: str
    """Who says so: a person, a station, a later process."""
    comment: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What became of a statement."""

    statement: Statement
    outcome: Literal["new", "known"]
    """`known`: the same statement had been given before."""
    disputed: bool
    """Whether the image has statements with different labels now."""


def say_label(
    workspace: Workspace,
    label: str,
    *,
    request_id: str | None = None,
    image_sha256: str | None = None,
    source: str = "",
    comment: str = "",
    key: str | None = None,
) -> Stored:
    """Store that the image of a request, or with this content, is a `label` of the bundle that answered (or is live).

    Acknowledged is what is on the disk. Raises NotFoundError for a request that nobody knows, InputError for a label
    that is no class, a key or text that is not allowed, or where neither request nor image is named; ConflictError
    for a key that was used for something else.
    """
    labels, image = _about(workspace, request_id, image_sha256)
    statement = Statement(
        key=_checked_key(key),
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        image_sha256=image,
        request_id=request_id,
        label=_checked_label(labels, label),
        source=_checked_text(source, "source", 200),
        comment=_checked_text(comment, "comment", LONGEST_COMMENT),
    )
    with workspace.database.change() as transaction:
        found = _rows(workspace, "key = ?", statement.key)
        if found and (found[0].image_sha256, found[0].label) != (statement.image_sha256, statement.label):
            raise ConflictError("the key was used for another statement", received=statement.key)
        if not found:
            transaction.execute(
                "insert into feedback (key, time, image_sha256, request_id, label, source, comment) "
                "values (?, ?, ?, ?, ?, ?, ?)",
                (
                    statement.key,
                    statement.time,
                    statement.image_sha256,
                    statement.request_id,
                    statement.label,
                    statement.source,
                    statement.comment,
                ),
            )
        told = {one.label for one in _rows(workspace, "image_sha256 = ?", image)}
    return Stored(
        statement=found[0] if found else statement, outcome="known" if found else "new", disputed=len(told) > 1
    )


def statements_about(workspace: Workspace, image_sha256: str) -> list[Statement]:
    """Everything said about an image, the oldest first."""
    return _rows(workspace, "image_sha256 = ?", image_sha256)


def statements(workspace: Workspace) -> list[Statement]:
    """Everything said, the oldest first."""
    return _rows(workspace, "? is null", None)


def disputed_images(workspace: Workspace) -> list[str]:
    """Images (sha256) about which people disagree."""
    rows = workspace.database.all(
        "select image_sha256 from feedback group by image_sha256 having count(distinct label) > 1 order by min(number)"
    )
    return [row[0] for row in rows]


def _rows(workspace: Workspace, where: str, value: str | None) -> list[Statement]:
    rows = workspace.database.all(
        f"select key, time, image_sha256, request_id, label, source, comment from feedback "
        f"where {where} order by number",
        (value,),
    )
    return [
        Statement(key=r[0], time=r[1], image_sha256=r[2], request_id=r[3], label=r[4], source=r[5], comment=r[6])
        for r in rows
    ]


def _about(workspace: Workspace, request_id: str | None, image_sha256: str | None) -> tuple[LabelSet, str]:
    """The classes of whoever answered, and the image."""
    if request_id is not None:
        event = event_of(workspace, request_id)
        if image_sha256 not in (None, event.image_sha256):
            raise ConflictError("the request was about another image", received=str(image_sha256)[:80])
        return _labels(workspace, event.bundle_id), event.image_sha256
    if image_sha256 is None:
        raise InputError("say which image: by the request that asked, or by the sha256 of its bytes")
    if not _SHA256.fullmatch(image_sha256):
        raise InputError("an image is named by 64 hex digits, the sha256 of its bytes", received=image_sha256[:80])
    live = deployment(workspace).live
    if live is None:
        raise NotFoundError("nothing is live whose classes would say what a label means", where=str(workspace.path))
    return _labels(workspace, live), image_sha256


def _labels(workspace: Workspace, bundle: str) -> LabelSet:
    """Classes of a bundle; of the live one where that bundle is not kept any more."""
    try:
        return stored_bundle(workspace, bundle).labels
    except NotFoundError:
        live = deployment(workspace).live
        if live is None:
            raise
        return stored_bundle(workspace, live).labels


def _checked_label(labels: LabelSet, label: str) -> str:
    name = labels.aliases.get(label, label)
    if name not in labels.names:
        raise InputError("no such class", received=label[:80], hint=nearest(label[:80], labels.names))
    return name


def _checked_key(key: str | None) -> str:
    if key is None:
        return secrets.token_hex(16)
    if not _KEY.fullmatch(key):
        raise InputError("a key has 1 to 200 printable ASCII characters", received=ascii(key[:80]))
    return key


def _checked_text(text: str, name: str, most: int) -> str:
    if len(text) > most:
        raise InputError(f"the {name} is longer than {most} characters", received=f"{len(text)} characters")
    if any(ord(character) < 32 and character not in "\n\t" for character in text):
        raise InputError(f"the {name} has control characters", received=ascii(text[:80]))
    return text
