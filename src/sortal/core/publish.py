"""The only way anything is put on disk as a whole: a reader sees the old thing or the new one, never a part of it.

Everything is written under a hidden temporary name in the same folder, flushed to the disk, and renamed. A process
that dies on the way leaves at most a hidden `.tmp-...` entry, which a later publication into that folder sweeps away.

Replacing a file is one rename. Replacing a folder exchanges the two names in one system call (Linux) and then removes
the old one. Where the system cannot exchange, the old folder is first renamed to `.old-<name>`: between those two
renames a reader finds nothing under the name, and a crash in between is mended by the next publication to it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from sortal.core.errors import InputError, MachineError

TEMPORARY = ".tmp-"
ASIDE = ".old-"
HIDDEN = (TEMPORARY, ASIDE)
"""What a name starts with that no reader may look at: the remains of a publication under way or broken off."""

_ABANDONED_S = 24 * 3600.0
"""Temporary entries of other machines and containers, whose processes cannot be looked up, count as dead after this."""

_TEMPORARY_NAME = re.compile(r"\.tmp-.+-(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-[0-9a-f]{8}", re.DOTALL)

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def publish_folder(target: Path, write: Callable[[Path], None], *, replace: bool = False) -> Path:
    """Put a folder in place as a whole. `write` fills an empty temporary folder, which then becomes `target`.

    Raises InputError when `target` exists and `replace` is False, MachineError when the machine refuses (disk full,
    no permission, ...). On any error, also one from `write`, the temporary folder is removed and what was at
    `target` before is still there.
    """
    target = _absolute(target)
    with disk_errors(target):
        _make_parents(target.parent)
        sweep(target.parent)
        _mend(target)
        if os.path.lexists(target) and not replace:
            raise _exists(target)
        temporary = _temporary_name(target)
        with _removed_on_error(temporary):
            temporary.mkdir()
            write(temporary)
            _sync_tree(temporary)
            put = _replace if replace and os.path.lexists(target) else _put_new
            put(temporary, target)
        _sync_folder(target.parent)
    with suppress(OSError):  # the new folder is in place: what cannot be removed now is swept later
        _remove(temporary)  # the old one, where two were exchanged
        _remove(_aside_name(target))
    return target


def publish_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put one file in place as a whole, replacing what was there; `mode` is who may read it, less the umask, from its
    first byte on. Raises MachineError when the machine refuses."""
    path = _absolute(path)
    with disk_errors(path):
        _make_parents(path.parent)
        _sweep_once(path.parent)
        temporary = _temporary_name(path)
        with _removed_on_error(temporary):
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105  one system call, named as such
        _sync_folder(path.parent)


def machine_error(error: OSError, where: Path) -> MachineError:
    """What an OSError becomes: the path, the system's own words, and what to do where that is known."""
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    path = str(where) if not named or TEMPORARY in named else named
    reason = error.strerror or str(error)
    return MachineError(f"the machine refused: {reason}", where=path, hint=_HINTS.get(error.errno or 0))


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn every OSError of the block into the MachineError that names `where`."""
    try:
        yield
    except OSError as error:
        raise machine_error(error, where) from error


_HINTS = {
    errno.ENOSPC: "free some disk space and run the command again",
    errno.EDQUOT: "free some of the disk quota and run the command again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another disk",
    errno.EACCES: "choose a folder that may be written, or change its permissions",
    errno.EPERM: "choose a folder that may be written, or change its permissions",
    errno.EROFS: "the disk is mounted read-only; choose another folder",
    errno.EIO: "the disk reports errors; check it before going on",
}


@contextmanager
def _removed_on_error(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            _remove(temporary)
        raise


def _absolute(path: Path) -> Path:
    """Without following a link in the last place: a link there is replaced, never written through."""
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.resolve would follow links


def _make_parents(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_parents(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _put_new(temporary: Path, target: Path) -> None:
    """Rename refuses a folder with content that appeared meanwhile, so nothing is overwritten in a race either."""
    try:
        temporary.rename(target)
    except OSError as error:
        if os.path.lexists(target):
            raise _exists(target) from error
        raise


def _replace(temporary: Path, target: Path) -> None:
    if _exchange(temporary, target):
        return
    aside = _aside_name(target)
    _remove(aside)
    target.rename(aside)
    try:
        temporary.rename(target)
    except OSError:
        aside.rename(target)
        raise


def _exists(target: Path) -> InputError:
    return InputError("already exists and is never overwritten", where=str(target))


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step. False where the system or the file system cannot."""
    rename = _renameat2()
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


@lru_cache(maxsize=1)
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError, AttributeError):
        function = ctypes.CDLL(None, use_errno=True).renameat2
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        found: Callable[[int, bytes, int, bytes, int], int] = function
        return found
    return None


def _sync_tree(folder: Path) -> None:
    """Flush every regular file, then every folder, deepest first."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in sorted(names):
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        _sync_folder(Path(parent))


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no such thing: a rename is in the journal of NTFS
        return
    try:
        _sync(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Whatever is at `path`, links not followed; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _mend(target: Path) -> None:
    """Finish a replacement that was broken off between its two renames, or after them."""
    aside = _aside_name(target)
    if not os.path.lexists(aside):
        return
    if os.path.lexists(target):
        _remove(aside)
    else:
        aside.rename(target)


@lru_cache(maxsize=256)
def _sweep_once(folder: Path) -> None:
    """Once a process: a folder of many files is not listed for each of them."""
    sweep(folder)


def sweep(folder: Path) -> None:
    """Clear away what publications into `folder` left behind when their process died."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if _is_abandoned(path):
                _remove(path)


def _is_abandoned(temporary: Path) -> bool:
    found = _TEMPORARY_NAME.fullmatch(temporary.name)
    if found is None:
        return False
    if found["machine"] == _machine():
        return not _is_running(int(found["pid"]))
    return time.time() - temporary.lstat().st_mtime > _ABANDONED_S


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # signal 0 would be Ctrl-C there; such remains wait until they count as abandoned
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _temporary_name(target: Path) -> Path:
    return target.parent / f"{TEMPORARY}{_short(target.name)}-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def _aside_name(target: Path) -> Path:
    return target.parent / f"{ASIDE}{_short(target.name)}"


def _short(name: str) -> str:
    """`name`, or where it leaves no room for the rest in 255 bytes its beginning and a digest."""
    raw = os.fsencode(name)
    return name if len(raw) <= 150 else f"{name[:30]}-{sha256(raw).hexdigest()[:16]}"


@lru_cache(maxsize=1)
def _machine() -> str:
    """Names the machine and container whose process numbers can be looked up from here, 8 hex digits."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    with suppress(OSError):
        name += f"/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116  a link into the kernel, not a file
    return sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
