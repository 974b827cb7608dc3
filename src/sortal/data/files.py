"""Reading an image file from disk: regular files only, up to a size, with a typed error for everything else.

A FIFO, device, socket or folder is recognized by `stat` and never opened. What the bytes mean is `data.decode`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from sortal.core.errors import ImageError, MachineError

MAX_FILE_BYTES = 256 * 2**20
"""Default limit of a file's size: above 40 megapixels of uncompressed 16-bit RGB."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CODES = {
    errno.ENOENT: ("missing", "there is no such file"),
    errno.ENOTDIR: ("missing", "a part of the path is not a folder"),
    errno.ENAMETOOLONG: ("missing", "the name is longer than the file system allows"),
    errno.ELOOP: ("not_a_file", "a symbolic link that leads back to itself"),
    errno.EACCES: ("permission", "the file may not be read"),
    errno.EPERM: ("permission", "the file may not be read"),
    errno.ENXIO: ("not_a_file", "not a regular file"),
}
_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def read_file(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """All bytes of a regular file or of what a symbolic link to one names.

    Raises ImageError, or MachineError where the process has no more file handles or memory.
    Only a change of the file between `stat` and `open` could make this open something else; it would not block.
    """
    try:
        _require_regular(path, path.stat(), max_bytes)
        descriptor = os.open(path, _FLAGS)
        with os.fdopen(descriptor, "rb") as stream:
            _require_regular(path, os.fstat(descriptor), max_bytes)
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise _named(path, error) from error
    except ValueError as error:
        raise ImageError("missing", "no file can have this name", where=shown(path)) from error
    if len(data) > max_bytes:
        raise _too_large(path, len(data), max_bytes)
    if not data:
        raise ImageError("empty", "the file has no bytes", where=shown(path))
    return data


def shown(path: Path | str) -> str:
    """A path as text that prints on one line: control, bidirectional and undecodable characters are escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _require_regular(path: Path, status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not_a_file", f"{_kind(status.st_mode)} is not an image file", where=shown(path))
    if status.st_size > max_bytes:
        raise _too_large(path, status.st_size, max_bytes)


def _too_large(path: Path, size: int, max_bytes: int) -> ImageError:
    return ImageError(
        "too_large", f"the file has {size:,} bytes or more; the limit is {max_bytes:,}", where=shown(path)
    )


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    ):
        if test(mode):
            return name
    return "a special file"


def _named(path: Path, error: OSError) -> ImageError | MachineError:
    if error.errno in _MACHINE:
        return MachineError(
            f"cannot open an image: {error.strerror}",
            where=shown(path),
            hint="raise the limit of open files or use fewer workers",
        )
    code, what = _CODES.get(error.errno or 0, ("corrupt", f"the file cannot be read: {error.strerror}"))
    return ImageError(code, what, where=shown(path))
