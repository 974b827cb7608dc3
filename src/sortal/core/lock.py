"""A lock on a file, held by one process at a time and gone when that process is, however it ended.

The system keeps the lock, so none is ever stale and nothing has to be taken over. It is of the kind that a forked child
does not inherit: the worker of a loader must not keep a dead run locked.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sortal.core.errors import MachineError
from sortal.core.publish import machine_error

_held: set[Path] = set()
"""Files locked by this process: the system's locks tell processes apart, not the holders inside one."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock that is held until `release` or the end of the process."""

    path: Path
    file: BinaryIO

    def release(self) -> None:
        """Let others have it; a second call does nothing."""
        if not self.file.closed:
            self.file.close()
            _held.discard(self.path)


def hold(path: Path) -> Lock:
    """Lock the file `path`, made where absent, without waiting. It then holds this process's number, for people.

    Raises MachineError when another process or another part of this one holds it, or the machine refuses.
    """
    path = path.resolve()
    if path in _held:
        raise _taken(path, "this process itself")
    try:
        file = path.open("a+b")
    except OSError as error:
        raise machine_error(error, path) from error
    try:
        _lock(file)
    except OSError as error:
        file.seek(0)
        holder = file.read(30).decode("ascii", "replace").strip()
        file.close()
        raise _taken(path, holder or "another process") from error
    file.truncate(0)
    file.write(f"process {os.getpid()}\n".encode())
    file.flush()
    _held.add(path)
    return Lock(path=path, file=file)


def _taken(path: Path, holder: str) -> MachineError:
    hint = "wait until it has finished, or end it"
    return MachineError(f"being written by {holder}", where=str(path.parent), hint=hint)


def _lock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 30)  # far behind the text, which others may then still read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
