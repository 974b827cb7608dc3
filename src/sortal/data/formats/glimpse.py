"""A cheap look into a source, for telling its format: a few hundred names near the top and the beginning of a file.

Nothing here raises: what cannot be looked at has no names and no bytes.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from pathlib import Path

import polars as pl

from sortal.core.errors import SortalError
from sortal.data.formats.tree import Tree, hidden
from sortal.data.members import index, is_archive, read_member

MAX_NAMES = 4000
MAX_DEPTH = 3
_EACH = 200
_FOLDERS = 40


def names(source: Path | Tree) -> list[str]:
    """Paths below the source, POSIX: of an archive or listed tree all, of a folder a part of those at most 3 deep."""
    if isinstance(source, Tree):
        return source.files["path"].to_list()
    if source.is_dir():
        return _walk(source)
    if not is_archive(source):
        return []
    try:
        return index(source).filter(pl.col("kind") == "file")["path"].to_list()
    except SortalError:
        return []


def head(source: Path | Tree, name: str | None = None, size: int = 4096) -> bytes:
    """The first bytes of a file, or of the file `name` in a folder, archive or tree."""
    try:
        if isinstance(source, Tree):
            found = source.files.filter(pl.col("path") == name)
            return next((data for _, data in source.contents(found)), b"")[:size]
        if name is not None and is_archive(source):
            row = index(source).filter((pl.col("path") == name) & (pl.col("kind") == "file"))
            offset, packed, method = row.select("_offset", "_size", "_method").row(0)
            return read_member(source, offset, packed, method, where=name)[:size]
        with (source if name is None else source / name).open("rb") as file:
            return file.read(size)
    except (OSError, ValueError, SortalError, pl.exceptions.PolarsError):
        return b""


def tail(path: Path, size: int = 4096) -> bytes:
    """The last bytes of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except (OSError, ValueError):
        return b""


def is_file(path: Path | Tree, *suffixes: str) -> bool:
    """Whether the source is a regular file with one of these suffixes."""
    if isinstance(path, Tree) or path.suffix.lower() not in suffixes:
        return False
    try:
        return path.is_file()
    except OSError:
        return False


def _walk(top: Path) -> list[str]:
    found: list[str] = []
    waiting = deque([("", 0)])
    while waiting and len(found) < MAX_NAMES:
        below, depth = waiting.popleft()
        folders = 0
        for name, folder in _entries(top / below):
            path = f"{below}/{name}" if below else name
            if not folder:
                found.append(path)
            elif depth + 1 < MAX_DEPTH and folders < _FOLDERS:
                folders += 1
                waiting.append((path, depth + 1))
    return found


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """(name, whether it is a folder): text files and folders first, so that thousands of images hide none of them."""
    try:
        with os.scandir(folder) as listed:
            entries = [(entry.name, entry.is_dir()) for entry in islice(listed, 20 * _EACH) if not hidden(entry.name)]
    except OSError:
        return []
    telling = (".xml", ".json", ".txt", ".yaml", ".yml", ".csv", ".jsonl", ".names")
    entries.sort(key=lambda entry: (not entry[1], not entry[0].lower().endswith(telling), entry[0]))
    return entries[: 2 * _EACH]
