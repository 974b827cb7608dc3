"""The SQLite file of a workspace: opened so that what was acknowledged survives a crash and a power cut.

Write-ahead log with `synchronous=FULL`: every commit is on the disk when it returns. SQLite from 3.7.0 to 3.51.2 can
corrupt a write-ahead log that two connections share (https://sqlite.org/wal.html#walresetbug), and that is what
systems ship; so the library comes from the package apsw and its version is checked. A connection belongs to the
process that opened it: SQLite files break when a fork carries them along. And to the file that it opened: where that
was moved away, or another one was put in its place, what is written would be lost, so it is refused.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sortal.core.errors import BundleError, InternalError, MachineError, MissingExtraError

FIRST_SOUND = (3, 51, 3)
"""The first SQLite whose write-ahead log is safe with several connections."""

_BUSY_MS = 10_000
_SCHEMA = 1

_TABLES = """
create table deployments (
    generation integer primary key autoincrement,
    time text not null,
    action text not null,
    bundle text,
    live text,
    canary text,
    canary_share real,
    shadow text,
    by text not null,
    note text not null
) strict;
create table pins (bundle text primary key) strict;
create table events (
    number integer primary key autoincrement,
    request_id text not null unique,
    time text not null,
    bundle_id text not null,
    image_sha256 text not null,
    body text not null
) strict;
create index events_by_time on events (time);
create index events_by_image on events (image_sha256);
create table feedback (
    number integer primary key autoincrement,
    key text not null unique,
    time text not null,
    image_sha256 text not null,
    request_id text,
    label text not null,
    source text not null,
    comment text not null
) strict;
create index feedback_by_image on feedback (image_sha256);
create table images (
    sha256 text primary key,
    suffix text not null,
    bytes integer not null,
    added real not null,
    kept integer not null default 0
) strict, without rowid;
create index images_by_age on images (kept, added);
"""


class Database:
    """One connection, which threads of its process may share: they take turns."""

    def __init__(self, path: Path, connection: Any):
        self.path = path
        self._connection = connection
        self._place = path.absolute()
        self._file = _identity(self._place)
        self._process = os.getpid()
        self._turn = threading.RLock()

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Every row of a query."""
        with self._ours(), _errors(self.path):
            return list(self._connection.execute(statement, tuple(values)))

    def one(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        return next(iter(self.all(statement, values)), None)

    @contextmanager
    def change(self) -> Iterator[Any]:
        """A transaction: all of the block's statements, or none. Gives an object with `execute(statement, values)`.

        Raises MachineError where the disk refuses, another process holds the file for longer than ten seconds, or the
        file is not at its place any more.
        """
        with self._ours(), _errors(self.path):
            self._check_place()
            self._connection.execute("begin immediate")
            try:
                yield self._connection
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise

    def version(self) -> int:
        """A number that changes when another connection has committed something. Raises MachineError where the file is
        not at its place any more."""
        with self._ours(), _errors(self.path):
            self._check_place()
            return int(self._connection.pragma("data_version"))

    def copy_to(self, path: Path) -> None:
        """A consistent copy, also while others write."""
        with self._ours(), _errors(path):
            other = _package().Connection(str(path))
            try:
                with other.backup("main", self._connection, "main") as work:
                    while not work.done:
                        work.step(256)
            finally:
                other.close()

    def close(self) -> None:
        """Give the file back. A second call does nothing."""
        if os.getpid() == self._process:
            self._connection.close()

    def _check_place(self) -> None:
        if _identity(self._place) != self._file:
            hint = "put it back; where another workspace shall be there, restart what has this one open"
            raise MachineError("the workspace was moved or replaced while it was open", where=str(self.path), hint=hint)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        if os.getpid() != self._process:
            raise InternalError(
                "a workspace was used in a process that a fork made; open it there", where=str(self.path)
            )
        with self._turn:
            yield


def create_database(path: Path) -> None:
    """An empty database at `path`, which must not exist."""
    connection = _connected(path, read_only=False, create=True)
    with _errors(path):
        connection.execute(f"begin immediate; {_TABLES} pragma user_version = {_SCHEMA}; commit")
    connection.close()


def open_database(path: Path, *, read_only: bool = False) -> Database:
    """Open the database of a workspace.

    Raises BundleError where it is damaged or of a newer format, MachineError where the disk refuses or this SQLite is
    not sound, MissingExtraError without apsw. With `read_only` nothing is written, not even beside the file.
    """
    if not path.is_file():
        raise BundleError("the workspace has no database", where=str(path))
    connection = _connected(path, read_only=read_only, create=False)
    with _errors(path):
        found = int(connection.pragma("user_version"))
    if found != _SCHEMA:
        connection.close()
        hint = "use the version of Sortal that wrote it, or a newer one" if found > _SCHEMA else None
        raise BundleError("a database of another format", where=str(path), received=str(found), hint=hint)
    return Database(path, connection)


def _package() -> Any:
    try:
        import apsw
    except ImportError as error:
        raise MissingExtraError("apsw", "serve") from error
    return apsw


def _connected(path: Path, *, read_only: bool, create: bool) -> Any:
    apsw = _package()
    refuse_unsound(apsw.sqlite_lib_version())
    with _errors(path):
        if read_only:
            return _read_only(apsw, path)
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(_BUSY_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        return connection


def _read_only(apsw: Any, path: Path) -> Any:
    """SQLite writes files beside a write-ahead log even to read it; where it cannot, the log must have been closed."""
    options = "mode=ro"
    if not os.access(path.parent, os.W_OK):
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            hint = "open and close it once where it may be written: sortal journal WORKSPACE"
            raise MachineError(
                "the workspace was not closed and cannot be read without writing", where=str(path), hint=hint
            )
        options = "immutable=1"
    address = f"file:{quote(str(path.absolute()))}?{options}"
    connection = apsw.Connection(address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.set_busy_timeout(_BUSY_MS)
    return connection


def refuse_unsound(version: str) -> None:
    """Raise MachineError for an SQLite whose write-ahead log is not safe."""
    if tuple(int(part) for part in version.split(".")[:3]) < FIRST_SOUND:
        least = ".".join(map(str, FIRST_SOUND))
        raise MachineError(
            "this SQLite can corrupt a write-ahead log", received=version, hint=f"pip install -U apsw (SQLite {least})"
        )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    apsw = _package()
    try:
        yield
    except apsw.FullError as error:
        hint = "free some disk space; nothing was written, and what was written before is still there"
        raise MachineError("the disk is full", where=str(path), hint=hint) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise BundleError("the database is damaged", where=str(path), received=str(error)) from error
    except (apsw.BusyError, apsw.LockedError) as error:
        hint = "end the process that holds it"
        raise MachineError("another process holds the database", where=str(path), hint=hint) from error
    except apsw.Error as error:
        raise MachineError(f"the machine refused: {error}", where=str(path)) from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file this is; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
