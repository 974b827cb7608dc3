"""A folder, a zip or a tar seen alike: the files in it with what is needed to read them, hidden ones left out.

Links are followed; every real folder is listed once, so loops end. FIFOs, sockets, devices, dangling links, unsafe or
encrypted members are reported and never opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError, MachineError
from sortal.core.report import Finding
from sortal.data.members import index, is_archive, read_member
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
    """

    path: Path
    root: Path
    files: pl.DataFrame
    folders: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def is_archive(self) -> bool:
        return self.root != self.path

    def text(self, path: str) -> str | None:
        """The UTF-8 text of a file in the tree, or None where there is none. Raises DataError when it is not text."""
        found = self.files.filter(pl.col("path") == path)
        if not found.height:
            return None
        where = f"{self.path}::{path}" if self.is_archive else str(self.path / path)
        try:
            return self._bytes(found, path, where).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read this text file: {error}", where=where) from error

    def images(self) -> pl.DataFrame:
        """The files whose names say image."""
        return self.files.filter(_is_image())

    def rows(self, files: pl.DataFrame) -> pl.DataFrame:
        """`files` with the columns uri and member that an ImageTable wants; `path` stays."""
        if self.is_archive:
            return files.with_columns(uri=pl.lit(self.path.name), member=pl.col("path"))
        return files.with_columns(uri=pl.col("path"), member=pl.lit(None, dtype=pl.String))

    def _bytes(self, found: pl.DataFrame, path: str, where: str) -> bytes:
        if not self.is_archive:
            return (self.path / path).read_bytes()
        offset, size, method = found.select("_offset", "_size", "_method").row(0)
        return read_member(self.path, offset, size, method, where=where)


def open_tree(path: Path) -> Tree:
    """List a folder or archive. Raises MachineError when it may not be read, DataError for damaged archives."""
    return _archive_tree(path) if is_archive(path) else _folder_tree(path)


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


def _is_image() -> pl.Expr:
    pattern = "|".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
    return pl.col("path").str.contains(rf"(?i)\.({pattern})$")


def _archive_tree(path: Path) -> Tree:
    members = index(path)
    system = "|".join(re.escape(name) for name in SYSTEM_NAMES)
    plain = pl.col("kind").is_in(["file", "folder"])
    members = members.filter(~(plain & pl.col("path").str.contains(rf"(?i)(^|/)(\.[^/]*|{system})(/|$)")))
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
    findings = tuple(finding(code, *_ODD[code], sorted(rows)) for code, rows in sorted(odd.items()))
    return Tree(path=path, root=path, files=frame, folders=tuple(sorted(folders)), findings=findings)


_ODD = {
    "dangling_link": ("warning", "links that lead nowhere"),
    "folder_seen_twice": ("warning", "links to folders that are listed already"),
    "not_a_file": ("warning", "FIFOs, sockets or devices, never opened"),
    "unreadable_folder": ("error", "folders that may not be read"),
    "name_not_utf8": ("warning", "names that are not valid UTF-8"),
}


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
