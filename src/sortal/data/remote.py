"""Folders that lie elsewhere (`s3://`, `gs://`, `http://`, `memory://`, `zip::` ...): listed once, read on demand.

Everything goes through fsspec (the extra `remote`; some stores need a package of their own, which fsspec names). What
fails for a moment is tried again; what is absent or forbidden is not. Nothing is ever written there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from sortal.core.errors import DataError, ImageError, MachineError, MissingExtraError, SortalError
from sortal.data.files import MAX_FILE_BYTES

ATTEMPTS = 4
FIRST_WAIT_S = 0.25
"""Doubled after each attempt: a store that is away for two seconds goes unnoticed."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:://|::)")
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ValueError)

Result = TypeVar("Result")


def is_remote(source: object) -> bool:
    """Whether `source` is a URL: `scheme://...` or a chain such as `zip::s3://...`. A Windows drive is none."""
    return isinstance(source, str) and _URL.match(source) is not None


def local_path(url: str) -> Path | None:
    """The path that a `file://` URL names, None for every other."""
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" and "::" not in url else None


def list_remote(url: str) -> list[tuple[str, int]]:
    """(path below `url`, bytes or -1) of every file, sorted. Raises DataError where there is nothing, MachineError."""
    system, base = _open(url)
    try:
        found = _persist(lambda: system.find(base, detail=True), url)
    except FileNotFoundError as error:
        raise DataError("there is no such remote folder", where=url) from error
    except (*_FINAL, SortalError) as error:
        raise _refused(error, url) from error
    below = base.rstrip("/") + "/" if base.strip("/") else base
    files = (
        (_below(str(path), below, url), -1 if info.get("size") is None else int(info["size"]))
        for path, info in found.items()
        if info.get("type") != "directory"
    )
    listed = sorted((name, size) for name, size in files if name)
    if not listed:
        raise DataError("there is no such remote folder, or it is empty", where=url)
    return listed


def read_remote(url: str, path: str, *, size: int | None = None, where: str | None = None) -> bytes:
    """The bytes of the file `path` below `url`; `size` is what the listing said.

    Raises ImageError (`missing`, `permission`, `not_a_file`, `empty`, `too_large`), and MachineError when the store
    does not answer: an outage says nothing about an image.
    """
    where = where or f"{url.rstrip('/')}/{path}"
    if size is not None and size > MAX_FILE_BYTES:
        raise ImageError("too_large", f"more than {MAX_FILE_BYTES:,} bytes", where=where, received=f"{size:,} bytes")
    system, base = _open(url)
    full = "/".join(part for part in (base.rstrip("/"), quote(path) if _is_web(url) else path) if part)
    try:
        data: bytes = _persist(lambda: system.cat_file(full), where)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing", "there is no such remote file", where=where) from error
    except PermissionError as error:
        raise ImageError("permission", "the remote file may not be read", where=where) from error
    except IsADirectoryError as error:
        raise ImageError("not_a_file", "a remote folder", where=where) from error
    except (NotImplementedError, ValueError) as error:
        raise _refused(error, where) from error
    if len(data) > MAX_FILE_BYTES:
        raise ImageError("too_large", f"more than {MAX_FILE_BYTES:,} bytes", where=where)
    if not data:
        raise ImageError("empty", "the file has no bytes", where=where)
    return data


def _open(url: str) -> tuple[Any, str]:
    """The file system and the path in it. fsspec keeps one object a store and makes it anew after a fork."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "remote") from error
    try:
        system, base = fsspec.url_to_fs(url)
    except ImportError as error:
        raise MachineError(f"this kind of store needs another package: {error}", where=url) from error
    except FileNotFoundError as error:
        raise DataError("there is no such remote archive", where=url) from error
    except ValueError as error:
        raise DataError(f"not a URL that can be opened: {error}", where=url) from error
    return system, str(base)


def _persist(ask: Callable[[], Result], where: str) -> Result:
    """What `ask` returns, asked again after failures that may pass. Raises one of `_FINAL`, or MachineError."""
    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except _FINAL:
            raise
        except Exception as error:  # every store has exceptions of its own
            _raise_if_final(error)
            if attempt == ATTEMPTS - 1:
                hint = "check the connection and run the command again"
                reason = str(error) or type(error).__name__
                raise MachineError(f"the remote store does not answer: {reason}", where=where, hint=hint) from error
            time.sleep(FIRST_WAIT_S * 2**attempt)
    raise AssertionError("unreachable")


def _raise_if_final(error: Exception) -> None:
    """HTTP's refusals: 401 and 403 are permissions, other 4xx but 408 and 429 mean that it is not there."""
    status = getattr(error, "status", None)
    if status in (401, 403):
        raise PermissionError(str(error)) from error
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429):
        raise FileNotFoundError(str(error)) from error


def _refused(error: BaseException, where: str) -> SortalError:
    return error if isinstance(error, SortalError) else MachineError(f"cannot read this: {error}", where=where)


def _below(path: str, base: str, url: str) -> str:
    name = path.removeprefix(base).lstrip("/")
    return unquote(name) if _is_web(url) else name


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))
