"""One file or folder moved to a free name: never over something else, and never lost however it ends.

On one file system a move is a rename, which happens as a whole. Across file systems the content is copied under a
hidden name, flushed, compared with the original, given its name, and only then is the original removed: a crash in
between leaves the image twice, which the next step of repair or undo mends.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

PARTIAL = ".sortal-part-"
"""What the name of a copy that is not complete starts with."""

_AT_FDCWD = -100
_NOREPLACE = 1


def fingerprint(path: Path) -> str:
    """What is at `path`: SHA-256 of a file's content, 64 hex digits; of a link the place it names; else the kind."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"link {hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()}"  # noqa: PTH115  bytes as they are
    if not stat.S_ISREG(status.st_mode):
        return f"special {stat.S_IFMT(status.st_mode):o}"
    return content_digest(path)


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, links followed, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spelled_alike(path: str) -> str:
    """A key that is equal for names which some file system takes for one: case and Unicode form disregarded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def move(source: Path, target: Path) -> None:
    """Move a file or link. Raises FileExistsError when there is something at `target`, OSError as the system does."""
    try:
        rename_to_free(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _carry(source, target)


def move_folder(source: Path, target: Path) -> list[Path]:
    """Move a folder, or, where it cannot be renamed or has been moved in part, what is in it, one by one.

    What stays behind because its place is taken is returned; a copy of the very same content is not kept twice.
    """
    if not os.path.lexists(target) or _same(source, target):
        try:
            rename_to_free(source, target)
            return []
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    status = source.lstat()  # before what is taken out changes its time
    target.mkdir(exist_ok=True)
    taken = []
    for name in sorted(os.listdir(source)):  # noqa: PTH208  names that are no text stay as they are
        taken += _move_inner(source / name, target / name)
    if not taken:
        _like(source, target)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        flush([target])
        source.rmdir()
    return taken


def _move_inner(source: Path, target: Path) -> list[Path]:
    remove_partial(target)
    if source.name.startswith(PARTIAL):
        source.unlink()
    elif source.is_dir() and not source.is_symlink():
        return move_folder(source, target)
    elif not os.path.lexists(target):
        move(source, target)
    elif fingerprint(source) == fingerprint(target):  # a move across file systems was killed before its last step
        source.unlink()
    else:
        return [source]
    return []


def rename_to_free(source: Path, target: Path) -> None:
    """Rename in one step, refusing where `target` exists; a change of case alone is no other name."""
    exclusive = _exclusive_rename()
    if exclusive is not None and not _same(source, target):
        if exclusive(os.fsencode(source), os.fsencode(target)) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise OSError(code, os.strerror(code), str(source), None, str(target))
    if os.path.lexists(target) and not _same(source, target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def remove_partial(target: Path) -> None:
    """Clear away a copy on its way to `target` that was broken off."""
    with suppress(FileNotFoundError, NotADirectoryError):
        _partial(target).unlink()


def flush(folders: Iterable[Path]) -> None:
    """Have the system write the names in these folders to the disk."""
    if os.name == "nt":
        return
    for folder in set(folders):
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def put(stored: Path, target: Path) -> None:
    """Replace the file `target` by a copy of `stored`, with its times and permissions, as a whole."""
    partial = _partial(target)
    remove_partial(target)
    _copy(stored, partial)
    os.replace(partial, target)  # noqa: PTH105  one system call, named as such
    flush([target.parent])


def _carry(source: Path, target: Path) -> None:
    """A move across file systems."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    partial = _partial(target)
    remove_partial(target)
    try:
        _copy(source, partial)
        if fingerprint(partial) != fingerprint(source):
            raise OSError(errno.EIO, "the copy differs from the original", str(source))
        rename_to_free(partial, target)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
    flush([target.parent])
    source.unlink()


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(os.readlink(source))  # noqa: PTH115
        _like(source, target)
        return
    with source.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
    _like(source, target)
    descriptor = os.open(target, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _like(source: Path, target: Path) -> None:
    """Times, permissions and, where that is allowed, the owner."""
    status = source.lstat()
    if hasattr(os, "lchown"):
        with suppress(OSError):
            os.lchown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target, follow_symlinks=False)


def _partial(target: Path) -> Path:
    return target.parent / (PARTIAL + hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16])


def _same(source: Path, target: Path) -> bool:
    """Whether two spellings name one entry, as on a file system that disregards case."""
    if spelled_alike(str(source)) != spelled_alike(str(target)):
        return False
    try:
        one, other = source.lstat(), target.lstat()
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


@lru_cache(maxsize=1)
def _exclusive_rename() -> Callable[[bytes, bytes], int] | None:
    """A rename that refuses an existing target by itself; None where the system has none that we know."""
    system: str = sys.platform
    with suppress(OSError, AttributeError):
        if system.startswith("linux"):
            rename = ctypes.CDLL(None, use_errno=True).renameat2
            rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
            return lambda one, other: int(rename(_AT_FDCWD, one, _AT_FDCWD, other, _NOREPLACE))
        if system == "darwin":
            renamex = ctypes.CDLL(None, use_errno=True).renamex_np
            renamex.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]
            return lambda one, other: int(renamex(one, other, 4))  # RENAME_EXCL
    return None
