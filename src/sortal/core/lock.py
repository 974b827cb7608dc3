"""A lock on a file, held by one process at a time and gone when that process is, however it ended.

The system keeps the lock, so none is ever stale and nothing has to be taken over. It is of the kind that a forked child
does not inherit: the worker of a loader must not keep a dead run locked.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from sortal.core.errors import MachineError
from sortal.core.publish import disk_errors

_held: dict[Path, int] = {}
"""Files locked by this process, with their descriptors: the system's locks tell processes apart, not the holders inside
one. Here rather than in a Lock, so that a lock that somebody forgets about is kept and not lost."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock that is held until `release` or the end of the process."""

    path: Path

    def release(self) -> None:
        """Let others have it; a second call does nothing."""
        descriptor = _held.pop(self.path, None)
        if descriptor is not None:
            os.close(descriptor)


def hold(path: Path) -> Lock:
    """Lock the file `path`, made where absent, without waiting. It then holds this process's number, for people.

    Raises MachineError when another process or another part of this one holds it, or the machine refuses.
    """
    path = path.resolve()
    if path in _held:
        raise _taken(path, "this process itself")
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor)
    except OSError as error:
        holder = os.read(descriptor, 30).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise _taken(path, holder or "another process") from error
    with disk_errors(path):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}\n".encode())
    _held[path] = descriptor
    return Lock(path=path)


def _taken(path: Path, holder: str) -> MachineError:
    hint = "wait until it has finished, or end it"
    return MachineError(f"being written by {holder}", where=str(path.parent), hint=hint)


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the text, which others may then still read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
