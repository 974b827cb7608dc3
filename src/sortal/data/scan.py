"""One pass over the bytes of every row: content digest and header; what cannot be opened is named and set aside.

Only headers are read unless asked otherwise: whether the pixels are whole shows when they are decoded. Memory stays
bounded whatever the number of rows.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import IMAGE_ERROR_CODES, ImageError
from sortal.core.report import Finding
from sortal.data.containers.header import ImageHeader
from sortal.data.decode import to_pixels
from sortal.data.formats.classes import with_label_findings
from sortal.data.header import read_header
from sortal.data.table import MAX_NAMED_ROWS, ImageTable, finding

Progress = Callable[[int, int], None]

_CHUNK = 256
SEEN = {
    "digest": pl.String(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "mode": pl.String(),
    "format": pl.String(),
    "code": pl.String(),
    "reason": pl.String(),
}
"""What is seen of a row: `code` and `reason` of an image that cannot be used, the rest of one that can."""
Seen = tuple[str | None, int | None, int | None, str | None, str | None, str | None, str | None]
Part = TypeVar("Part")


def scan(
    table: ImageTable, *, workers: int | None = None, full: bool = False, progress: Progress | None = None
) -> ImageTable:
    """The readable rows with `digest` (SHA-256 of the bytes or pixels), _width, _height, _mode and _format (as stored).

    Rows that cannot be opened are moved to `rejected` with their code, and a finding `unreadable` for each code names
    them; with `full` every image is decoded too, so truncated and damaged pixels are found. Exact duplicates give
    findings `exact_duplicates` and `conflicting_labels`. `workers` threads (default: the CPUs allowed); `progress` is
    called with (rows done, rows in all).
    """
    seen = _look(table, workers, full=full, progress=progress)
    return settled(table, seen)


def settled(table: ImageTable, seen: pl.DataFrame) -> ImageTable:
    """The table with what was seen of each row (columns SEEN): columns, rows set aside, and findings of both."""
    keep = seen["code"].is_null().to_numpy()
    columns = {"digest": seen["digest"], **{f"_{name}": seen[name] for name in ("width", "height", "mode", "format")}}
    looked = table.with_columns(columns)
    bad = seen.filter(pl.Series(~keep))
    scanned = looked.reject(keep, bad["code"].to_list(), bad["reason"].to_list())
    found = (*_unreadable(looked, bad, keep), *duplicate_findings(scanned))
    return with_label_findings(scanned).with_findings(*found)


def duplicate_findings(table: ImageTable) -> tuple[Finding, ...]:
    """Rows with the same content (and region): `exact_duplicates`, and `conflicting_labels` where labels differ."""
    keys = ["digest", "region"]
    named = table.frame.with_columns(table.name_series().alias("_name"))
    twice = named.filter(pl.struct(keys).is_duplicated() & pl.col("digest").is_not_null())
    if not twice.height:
        return ()
    twice = twice.with_columns(pl.struct(keys).rank("dense").alias("_set")).sort("_set", "_name")
    twice = twice.with_columns((pl.col("label").filter(pl.col("label") >= 0).n_unique() > 1).over("_set").alias("_odd"))
    same, odd = twice.filter(~pl.col("_odd")), twice.filter(pl.col("_odd"))
    found = []
    if same.height:
        message = f"{same['_set'].n_unique()} images are there more than once ({same.height} rows)"
        hint = "a split keeps them together"
        found.append(finding("exact_duplicates", "warning", message, same["_name"].head(MAX_NAMED_ROWS), hint))
    if odd.height:
        message = f"{odd['_set'].n_unique()} images are there under different labels ({odd.height} rows)"
        hint = "one of the labels is wrong: look at them"
        found.append(finding("conflicting_labels", "warning", message, odd["_name"].head(MAX_NAMED_ROWS), hint))
    return tuple(found)


def in_order(work: Callable[[range], Part], total: int, workers: int | None) -> Iterator[Part]:
    """`work` done by threads on the rows 0 .. total in chunks of 256: the parts in row order, a few chunks ahead."""
    workers = workers or _allowed_cpus()
    waiting: deque[Future[Part]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="sortal-scan")
    try:
        for start in range(0, total, _CHUNK):
            waiting.append(pool.submit(work, range(start, min(start + _CHUNK, total))))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def content_digest(content: bytes | NDArray[Any]) -> str:
    """SHA-256 of an encoded file's bytes or of an array (see `array_digest`)."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else array_digest(content)


def array_header(pixels: NDArray[Any]) -> ImageHeader:
    """What a file's header says, for the pixels (H, W, C) of an array."""
    height, width = pixels.shape[:2]
    return ImageHeader(format="array", width=width, height=height, mode=_mode(pixels))


def seen_row(digest: str, header: ImageHeader) -> Seen:
    """A row of SEEN for an image that can be used."""
    return digest, header.width, header.height, header.mode, header.format, None, None


def refused_row(error: ImageError) -> Seen:
    """A row of SEEN for one that cannot."""
    return None, None, None, None, None, error.code, error.what


def _look(table: ImageTable, workers: int | None, *, full: bool, progress: Progress | None) -> pl.DataFrame:
    done, parts = 0, [pl.DataFrame(schema=SEEN)]
    for rows in in_order(lambda rows: [_one(table, row, full=full) for row in rows], len(table), workers):
        parts.append(pl.DataFrame(rows, schema=SEEN, orient="row"))
        done += len(rows)
        if progress is not None:
            progress(done, len(table))
    return pl.concat(parts)


def _one(table: ImageTable, row: int, *, full: bool) -> Seen:
    try:
        content = table.read_whole(row)
        if full:
            to_pixels(content, where=table.name(row))
        header = read_header(content) if isinstance(content, bytes) else array_header(content)
        return seen_row(content_digest(content), header)
    except ImageError as error:
        return refused_row(error)


def array_digest(pixels: NDArray[Any]) -> str:
    """SHA-256 over type, shape and samples, the same on machines of either byte order."""
    head = f"{pixels.dtype.str.lstrip('<>|=')} {pixels.shape}\n".encode()
    return hashlib.sha256(
        head + np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    ).hexdigest()


def _mode(pixels: NDArray[Any]) -> str:
    plain = {1: "L", 3: "RGB", 4: "RGBA"}[pixels.shape[2]]
    return plain if pixels.dtype == np.uint8 else {"L": "I;16"}.get(plain, f"{plain};16")


def _unreadable(table: ImageTable, bad: pl.DataFrame, keep: NDArray[np.bool_]) -> list[Finding]:
    if not bad.height:
        return []
    names = table.name_series().filter(pl.Series(~keep))
    counts = Counter(bad["code"].to_list())
    return [
        finding(
            "unreadable",
            "warning",
            f"{number} images left out, {code}: {IMAGE_ERROR_CODES.get(code, 'cannot be used')}",
            names.filter(bad["code"] == code).head(MAX_NAMED_ROWS),
            "replace or remove them",
        )
        for code, number in sorted(counts.items())
    ]


def _allowed_cpus() -> int:
    """CPUs this process may use, where the system tells (Linux), else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
