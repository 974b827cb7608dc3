"""Images of production by content: each kept once, within a quota, as long as it is worth it.

The file is on the disk before its row is, and goes after it: a row always has its file. A file without a row is the
rest of a process that died, and swept away once it is old enough not to be somebody's work in progress.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from sortal.core.errors import BundleError, InputError, NotFoundError
from sortal.core.publish import HIDDEN, disk_errors, publish_file, sweep
from sortal.workspace.folder import IMAGES, Workspace

_DAY_S = 86_400.0
_IN_PROGRESS_S = 3_600.0
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")

Clock = Callable[[], float]


def keep_image(workspace: Workspace, data: bytes, *, suffix: str = "", clock: Clock = time.time) -> str | None:
    """Store the bytes of an image and return their sha256; None where they do not fit: the quota is taken by images
    that somebody labelled, or smaller than this one.

    Room is made by letting the oldest images go that have no label. Raises InputError for a suffix that is none.
    """
    if suffix and not _SUFFIX.fullmatch(suffix):
        raise InputError("a suffix is a dot and up to eight small letters or digits", received=suffix[:40])
    name = sha256(data).hexdigest()
    known = workspace.database.one("select suffix from images where sha256 = ?", (name,))
    if known is not None and _path(workspace, name, known[0]).is_file():
        return name
    if known is not None:  # its file was taken away by others
        _remove(workspace, [(name, known[0])])
    if not _room_for(workspace, len(data)):
        return None
    path = _path(workspace, name, suffix)
    publish_file(path, data)
    with workspace.database.change() as transaction:
        if not path.is_file():  # swept away between the two
            publish_file(path, data)
        transaction.execute(
            "insert or ignore into images (sha256, suffix, bytes, added) values (?, ?, ?, ?)",
            (name, suffix, len(data), clock()),
        )
    return name


def image_path(workspace: Workspace, name: str) -> Path:
    """The file of an image by its sha256. Raises NotFoundError where it is not kept."""
    row = workspace.database.one("select suffix from images where sha256 = ?", (name,))
    if row is None:
        raise NotFoundError("no such image is kept", where=str(workspace.path), received=name[:80])
    return _path(workspace, name, row[0])


def read_image(workspace: Workspace, name: str) -> bytes:
    """The bytes of an image, verified. Raises NotFoundError where it is not kept, BundleError where it was altered,
    MachineError where it cannot be read."""
    path = image_path(workspace, name)
    with disk_errors(path):
        data = path.read_bytes()
    if sha256(data).hexdigest() != name:
        raise BundleError("the image was altered", where=str(path))
    return data


def mark_kept(workspace: Workspace, name: str, *, kept: bool = True) -> None:
    """Keep an image whatever the quota says, or no longer."""
    with workspace.database.change() as transaction:
        transaction.execute("update images set kept = ? where sha256 = ?", (int(kept), name))


def used_bytes(workspace: Workspace) -> int:
    """Bytes of all images that are kept."""
    row = workspace.database.one("select coalesce(sum(bytes), 0) from images")
    return int(row[0]) if row else 0


def clear_images(workspace: Workspace, *, clock: Clock = time.time) -> int:
    """Let go of what is older than the settings allow, and of files without a row; returns how many went."""
    gone = 0
    if workspace.settings.images_days is not None:
        oldest = clock() - _DAY_S * workspace.settings.images_days
        rows = workspace.database.all("select sha256, suffix from images where kept = 0 and added < ?", (oldest,))
        gone += _remove(workspace, rows)
    return gone + _sweep(workspace, clock)


def _room_for(workspace: Workspace, size: int) -> bool:
    """Whether `size` more bytes fit, after the oldest images without a label have made room for them."""
    quota = int(workspace.settings.images_mb * 1e6)
    over = used_bytes(workspace) + size - quota
    if over <= 0:
        return True
    if size > quota:
        return False
    leaving = []
    for name, suffix, taken in workspace.database.all(
        "select sha256, suffix, bytes from images where kept = 0 and sha256 not in "
        "(select image_sha256 from feedback) order by added"
    ):
        leaving.append((name, suffix))
        over -= taken
        if over <= 0:
            _remove(workspace, leaving)
            return True
    return False


def _remove(workspace: Workspace, rows: Sequence[tuple[Any, ...]]) -> int:
    """Rows first, then files: what is listed is there."""
    with workspace.database.change() as transaction:
        transaction.executemany("delete from images where sha256 = ?", [(row[0],) for row in rows])
    _unlink(workspace, [_path(workspace, row[0], row[1]) for row in rows])
    return len(rows)


def _sweep(workspace: Workspace, clock: Clock) -> int:
    old, images = [], workspace.path / IMAGES
    with disk_errors(images):
        for folder in images.iterdir():
            sweep(folder)
            old += [
                path
                for path in folder.iterdir()
                if not path.name.startswith(HIDDEN) and clock() - path.stat().st_mtime >= _IN_PROGRESS_S
            ]
    return _unlink(workspace, old)


def _unlink(workspace: Workspace, paths: Sequence[Path]) -> int:
    """Remove those that have no row. In a transaction, so that nobody lists one meanwhile."""
    gone = 0
    with workspace.database.change(), disk_errors(workspace.path / IMAGES):
        for path in paths:
            name = path.name.partition(".")[0]
            if workspace.database.one("select 1 from images where sha256 = ?", (name,)) is None:
                path.unlink(missing_ok=True)
                gone += 1
    return gone


def _path(workspace: Workspace, name: str, suffix: str) -> Path:
    return workspace.path / IMAGES / name[:2] / f"{name}{suffix}"
