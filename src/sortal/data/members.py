"""Members of zip and tar archives, read in place: an index of offsets, and one member's bytes by its offset.

Nothing is ever extracted. The index is one Polars frame (no object for each member); reading opens the archive afresh,
so it is safe from any number of threads and processes. What is inside a member is left to `decode`.
"""

from __future__ import annotations

import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import polars as pl

from sortal.core.errors import DataError, ImageError, MachineError

STORED, DEFLATED = 0, 8
MAX_MEMBER_BYTES = 256 * 2**20
ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar",)
PACKED_TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")

_COLUMNS = ("path", "kind", "_offset", "_size", "_method")
_LOCAL_HEADER = struct.Struct("<4s22xHH")

Entry = tuple[str, str, int, int, int]
"""(path, kind, offset, bytes in the archive, method); kind is `file`, `folder`, or why the member is left alone."""


def is_archive(path: Path) -> bool:
    """Whether the name says zip or tar (compressed tars included, which `index` refuses with a hint)."""
    return path.name.lower().endswith(ZIP_SUFFIXES + TAR_SUFFIXES + PACKED_TAR_SUFFIXES) and path.is_file()


def index(path: Path) -> pl.DataFrame:
    """Every member: path (POSIX, `./` removed), kind, _offset, _size, _method.

    `kind` is `file` or `folder`, or why it is left alone: `unsafe` (absolute or `..`), `link`, `special`, `encrypted`,
    `compression`, `replaced` (a later member has the same name). Raises DataError for damaged or compressed archives.
    """
    if path.name.lower().endswith(PACKED_TAR_SUFFIXES):
        raise DataError(
            "members of a compressed tar cannot be read in place",
            where=str(path),
            hint="unpack it, or repack it as plain .tar or .zip (images are compressed already)",
        )
    try:
        status = path.stat()
        return _index(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise MachineError(f"cannot read this archive: {error.strerror}", where=str(path)) from error


def read_member(path: Path, offset: int, size: int, method: int, *, where: str) -> bytes:
    """One member's bytes. Raises ImageError (`missing`, `too_large`, `truncated`, `corrupt`) that names `where`."""
    if size > MAX_MEMBER_BYTES:
        raise ImageError("too_large", f"more than {MAX_MEMBER_BYTES:,} bytes", where=where, received=f"{size:,} bytes")
    try:
        with path.open("rb") as file:
            data = (
                _read_zip(file, offset, size) if path.name.lower().endswith(ZIP_SUFFIXES) else _at(file, offset, size)
            )
    except FileNotFoundError as error:
        raise ImageError("missing", "the archive is gone", where=where) from error
    except OSError as error:
        raise ImageError("permission", f"the archive cannot be read: {error.strerror}", where=where) from error
    if len(data) < size:
        raise ImageError("truncated", "the archive ends early", where=where)
    return _inflate(data, where) if method == DEFLATED else data


@lru_cache(maxsize=2)
def _index(path: Path, _mtime_ns: int, _size: int) -> pl.DataFrame:
    entries = _zip_entries(path) if path.name.lower().endswith(ZIP_SUFFIXES) else _tar_entries(path)
    try:
        frame = _gather(entries)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, UnicodeError, struct.error) as error:
        raise DataError(f"a damaged archive: {error}", where=str(path)) from error
    last = pl.int_range(pl.len()).reverse().over("path") == 0
    replaced = (pl.col("kind") == "file") & ~last
    return frame.with_columns(kind=pl.when(replaced).then(pl.lit("replaced")).otherwise(pl.col("kind")))


def _gather(entries: Iterator[Entry], chunk: int = 65536) -> pl.DataFrame:
    schema = dict(zip(_COLUMNS, (pl.String, pl.String, pl.Int64, pl.Int64, pl.Int64), strict=True))
    parts, rows = [pl.DataFrame(schema=schema)], list[Entry]()
    for entry in entries:
        rows.append(entry)
        if len(rows) == chunk:
            parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
            rows = []
    parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
    return pl.concat(parts)


def _zip_entries(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            yield _name(info.filename), _zip_kind(info), info.header_offset, info.compress_size, info.compress_type


def _zip_kind(info: zipfile.ZipInfo) -> str:
    if not _is_safe(info.filename):
        return "unsafe"
    if info.is_dir():
        return "folder"
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return "link"
    if info.flag_bits & 0x1:
        return "encrypted"
    return "file" if info.compress_type in (STORED, DEFLATED) else "compression"


def _tar_entries(path: Path) -> Iterator[Entry]:
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep every member
            yield _name(info.name), _tar_kind(info), info.offset_data, info.size, STORED


def _tar_kind(info: tarfile.TarInfo) -> str:
    if not _is_safe(info.name):
        return "unsafe"
    if info.issym() or info.islnk():
        return "link"
    if info.isdir():
        return "folder"
    return "file" if info.isreg() and not info.issparse() else "special"


def _is_safe(name: str) -> bool:
    plain = name.replace("\\", "/")
    return not plain.startswith("/") and ".." not in plain.split("/") and ":" not in plain[:2] and "\0" not in plain


def _name(name: str) -> str:
    cleaned = name.encode("utf-8", "replace").decode("utf-8")
    return str(PurePosixPath(unicodedata.normalize("NFC", cleaned)))


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _read_zip(file: BinaryIO, offset: int, size: int) -> bytes:
    header = _at(file, offset, _LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        return b""
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    return _at(file, offset + _LOCAL_HEADER.size + name_length + extra_length, size)


def _inflate(data: bytes, where: str) -> bytes:
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = engine.decompress(data, MAX_MEMBER_BYTES)
    except zlib.error as error:
        raise ImageError("corrupt", f"the archive is damaged here: {error}", where=where) from error
    if engine.unconsumed_tail:
        raise ImageError("too_large", f"more than {MAX_MEMBER_BYTES:,} bytes when unpacked", where=where)
    if not engine.eof:
        raise ImageError("truncated", "the archive ends early", where=where)
    return plain
