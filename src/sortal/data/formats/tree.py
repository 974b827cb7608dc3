"""A folder, a zip, a tar or a remote folder seen alike: the files in it with what is needed to read them, hidden ones
left out. A lone annotation file is a tree too: of itself, beside images that are looked for by name.

Links are followed; every real folder is listed once, so loops end. FIFOs, sockets, devices, dangling links, unsafe or
encrypted members are reported and never opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from sortal.core.errors import DataError, ImageError, MachineError
from sortal.core.report import Finding
from sortal.data.members import index, is_archive, read_member
from sortal.data.remote import list_remote, read_remote
from sortal.data.table import finding

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".heic", ".heif"),
)
SYSTEM_NAMES = frozenset(
    name.casefold()
    for name in (
        "__MACOSX",
        "Thumbs.db",
        "desktop.ini",
        "@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
    )
)
_SYSTEM_PARTS = rf"(?i)(^|/)(\.[^/]*|{'|'.join(re.escape(name) for name in SYSTEM_NAMES)})(/|$)"
_MEMBER_REASONS = {
    "unsafe": "members with absolute or climbing paths",
    "link": "links",
    "special": "devices, FIFOs or sparse files",
    "encrypted": "encrypted members",
    "compression": "members in an unusual compression",
    "replaced": "members that a later one of the same name replaces",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """`files`: column `path` (POSIX, below the top), for archives also _offset, _size, _method; sorted by path.

    `root` is the folder that row names are relative to: the folder itself, or the folder that holds the archive.
    `remote` is the URL of a remote folder, whose `files` have a column _size. In a `lone` tree only one file is listed.
    """

    path: Path
    root: Path
    files: pl.DataFrame
    folders: tuple[str, ...]
    findings: tuple[Finding, ...]
    remote: str | None = None
    lone: bool = False

    @property
    def is_archive(self) -> bool:
        return "_offset" in self.files.columns

    @property
    def source(self) -> str:
        """What a person calls it: the path or URL; of a lone file its own."""
        return self.remote or str(self.path / self.files["path"][0] if self.lone else self.path)

    def where(self, path: str) -> str:
        """What a person calls a file of the tree."""
        if self.remote is not None:
            return f"{self.remote.rstrip('/')}/{path}"
        return f"{self.path}::{path}" if self.is_archive else str(self.path / path)

    def text(self, path: str) -> str | None:
        """The UTF-8 text of a file in the tree, or None where there is none. Raises DataError when it is not text."""
        found = self.files.filter(pl.col("path") == path)
        return next(text for _, text in self.texts(found)) if found.height else None

    def texts(self, files: pl.DataFrame) -> Iterator[tuple[str, str]]:
        """(path, UTF-8 text) of each of `files`, rows of this tree. Raises DataError where one is no text."""
        for name, data in self.contents(files):
            try:
                yield name, data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(f"cannot read this text file: {error}", where=self.where(name)) from error

    def contents(self, files: pl.DataFrame) -> Iterator[tuple[str, bytes]]:
        """(path, bytes) of each of `files`, rows of this tree. Raises DataError that names what cannot be read."""
        for values in files.iter_rows(named=True):
            try:
                yield values["path"], self._bytes(values)
            except ImageError as error:
                raise DataError(f"cannot read this file: {error.what}", where=self.where(values["path"])) from error
            except OSError as error:
                raise DataError(f"cannot read this file: {error}", where=self.where(values["path"])) from error

    def has(self, paths: pl.Series) -> pl.Series:
        """For each path, which may be null, whether there is such a file. A lone tree asks the disk."""
        if not self.lone:
            return paths.is_in(self.files["path"].implode()).fill_null(value=False)
        distinct = paths.unique().drop_nulls()
        there = {path: _exists(self.root, path) for path in distinct}
        return paths.replace_strict(there, default=False, return_dtype=pl.Boolean).fill_null(value=False)

    def images(self) -> pl.DataFrame:
        """The files whose names say image."""
        return self.files.filter(_is_image())

    def rows(self, files: pl.DataFrame) -> pl.DataFrame:
        """`files` with the columns uri and member that an ImageTable wants; `path` stays."""
        if self.is_archive:
            return files.with_columns(uri=pl.lit(self.path.name), member=pl.col("path"))
        return files.with_columns(uri=pl.col("path"), member=pl.lit(None, dtype=pl.String))

    def _bytes(self, values: dict[str, Any]) -> bytes:
        path: str = values["path"]
        if self.remote is not None:
            return read_remote(self.remote, path, size=values["_size"])
        if not self.is_archive:
            return (self.path / path).read_bytes()
        return read_member(self.path, values["_offset"], values["_size"], values["_method"], where=self.where(path))


def open_tree(path: Path) -> Tree:
    """List a folder or archive. Raises MachineError when it may not be read, DataError for damaged archives."""
    return _archive_tree(path) if is_archive(path) else _folder_tree(path)


def tree_of(path: Path) -> Tree:
    """A folder or archive, or the lone tree of any other file."""
    if is_tree(path):
        return open_tree(path)
    frame = pl.DataFrame({"path": [path.name]}, schema={"path": pl.String})
    return Tree(path=path.parent, root=path.parent, files=frame, folders=(), findings=(), lone=True)


def remote_tree(url: str) -> Tree:
    """List a remote folder. Raises DataError where there is nothing, MachineError when the store does not answer."""
    frame = pl.DataFrame(list_remote(url), schema={"path": pl.String, "_size": pl.Int64}, orient="row")
    frame = frame.filter(~pl.col("path").str.contains(_SYSTEM_PARTS)).sort("path")
    folders = sorted({parent.as_posix() for name in frame["path"] for parent in PurePosixPath(name).parents} - {"."})
    place = Path(re.sub(r"[^\w.-]+", "-", url))
    return Tree(path=place, root=place, files=frame, folders=tuple(folders), findings=(), remote=url)


def is_tree(path: Path) -> bool:
    """Whether `path` is a folder, or an archive by its name."""
    return path.is_dir() or is_archive(path)


def ignored_finding(files: pl.DataFrame, used: tuple[str, ...] = ()) -> list[Finding]:
    """An info finding that counts the files that are not images, by suffix."""
    other = files.filter(~_is_image() & ~pl.col("path").is_in(list(used)))
    if not other.height:
        return []
    suffixes = other.select(
        pl.col("path").str.extract(r"(\.[^./]+)$").fill_null("no suffix").str.to_lowercase().alias("s")
    )
    kinds = suffixes.group_by("s").len().sort("len", "s", descending=[True, False]).head(5)
    listed = ", ".join(f"{number} {suffix}" for suffix, number in kinds.iter_rows())
    return [finding("ignored_files", "info", f"{other.height} files are no images: {listed}", other["path"].head(1000))]


def hidden(name: str) -> bool:
    """Whether a file or folder name is one of the operating system's or starts with a dot."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def _exists(root: Path, path: str) -> bool:
    try:
        return os.path.lexists(os.path.join(root, path))  # noqa: PTH118  (a million times: Path is ten times slower)
    except ValueError:
        return False


def _is_image() -> pl.Expr:
    pattern = "|".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    return pl.col("path").str.contains(rf"(?i)\.({pattern})$")


def _archive_tree(path: Path) -> Tree:
    members = index(path)
    plain = pl.col("kind").is_in(["file", "folder"])
    members = members.filter(~(plain & pl.col("path").str.contains(_SYSTEM_PARTS)))
    files = members.filter(pl.col("kind") == "file").drop("kind").sort("path")
    folders = members.filter(pl.col("kind") == "folder")["path"].unique().sort()
    findings = [
        finding(
            f"archive_{kind}", "warning", f"{len(rows)} {reason} are left alone", (f"{path.name}::{r}" for r in rows)
        )
        for kind, reason in _MEMBER_REASONS.items()
        if len(rows := members.filter(pl.col("kind") == kind)["path"])
    ]
    return Tree(path=path, root=path.parent, files=files, folders=tuple(folders), findings=tuple(findings))


def _folder_tree(path: Path) -> Tree:
    files: list[str] = []
    folders: list[str] = []
    odd: dict[str, list[str]] = {}
    for kind, name in _walk(path):
        if kind == "file":
            files.append(name)
        elif kind == "folder":
            folders.append(name)
        else:
            odd.setdefault(kind, []).append(name)
    frame = pl.DataFrame({"path": pl.Series(files, dtype=pl.String)}).sort("path")
    findings = tuple(_odd(code, sorted(rows)) for code, rows in sorted(odd.items()))
    return Tree(path=path, root=path, files=frame, folders=tuple(sorted(folders)), findings=findings)


_ODD = {
    "dangling_link": ("warning", "link that leads nowhere", "links that lead nowhere"),
    "folder_seen_twice": ("warning", "link to a folder that is listed already", "links to folders that are listed"),
    "not_a_file": ("warning", "FIFO, socket or device, never opened", "FIFOs, sockets or devices, never opened"),
    "unreadable_folder": ("error", "folder that may not be read", "folders that may not be read"),
    "name_not_utf8": ("warning", "name that is not valid UTF-8", "names that are not valid UTF-8"),
}


def _odd(code: str, names: list[str]) -> Finding:
    severity, one, many = _ODD[code]
    return finding(code, severity, f"left out: {len(names):,} {one if len(names) == 1 else many}", names)


def _walk(top: Path) -> Iterator[tuple[str, str]]:
    """(kind, path below the top) of everything that is not hidden."""
    waiting, seen = [""], set[tuple[int, int]]()
    while waiting:
        below = waiting.pop()
        try:
            status = (top / below).stat()
            listed = [] if (status.st_dev, status.st_ino) in seen else list(os.scandir(top / below))
        except OSError as error:
            if not below:
                raise MachineError(f"cannot read this folder: {error.strerror}", where=str(top)) from error
            yield "unreadable_folder", below
            continue
        if below:
            yield ("folder_seen_twice" if (status.st_dev, status.st_ino) in seen else "folder"), below
        seen.add((status.st_dev, status.st_ino))
        for entry in listed:
            if hidden(entry.name):
                continue
            kind, name = _kind(entry), f"{below}/{entry.name}" if below else entry.name
            if kind == "folder":
                waiting.append(name)
            else:
                yield kind, name if kind != "name_not_utf8" else name.encode("utf-8", "replace").decode()


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        entry.name.encode("utf-8")
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return "dangling_link" if entry.is_symlink() else "not_a_file"
    except UnicodeEncodeError:
        return "name_not_utf8"
    except OSError:
        return "dangling_link"
