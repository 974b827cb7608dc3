"""Survey: what one pass over the bytes of every image finds, beside its digest and header.

Each file is read once and decoded once, by threads with bounded memory; what was measured on pixels is kept in the
cache by content, so that a second survey decodes nothing but what is damaged. An image takes about 1 KB of memory.

Shapes: N rows of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.core.preprocess import Pixels, cut_region
from sortal.data.cache import Cache, content_key, open_cache
from sortal.data.containers.header import ImageHeader
from sortal.data.decode import to_pixels
from sortal.data.exif import NOWHERE, read_origin
from sortal.data.header import read_header
from sortal.data.look import look, look_settings
from sortal.data.look_measure import HASH_BITS, MEASURES, RECORD, TINY_PX
from sortal.data.scan import (
    SEEN,
    Progress,
    Seen,
    array_header,
    content_digest,
    in_order,
    refused_row,
    seen_row,
    settled,
)
from sortal.data.table import ImageTable

HASH_BYTES = HASH_BITS // 8

COLUMNS: dict[str, pl.DataType] = {
    "bytes": pl.Int64(),
    "suffix": pl.String(),
    "format": pl.String(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "mode": pl.String(),
    "frames": pl.Int64(),
    "orientation": pl.Int64(),
    "camera": pl.String(),
    "taken": pl.Datetime("us"),
    "gps": pl.Boolean(),
    "brightness": pl.Float64(),
    "dark": pl.Float64(),
    "light": pl.Float64(),
    "contrast": pl.Float64(),
    "sharpness": pl.Float64(),
    "entropy": pl.Float64(),
    "chroma": pl.Float64(),
    "border": pl.Float64(),
    "personal": pl.Boolean(),
    "filled": pl.Float64(),
}
"""Of `Survey.frame`. `bytes` of the file (of the pixels of an array); `suffix` is the format that the file's name says,
null where it says none; `format`, `mode`, `frames`, `orientation` from the header; `width` and `height` of the upright
image, or of the region that a row is; `camera` (make and model), `taken`, `gps` (whether there is a position) and
`personal` (whether an artist, owner or serial number is named) from EXIF. The rest is measured on pixels, 0..1: mean
luma, its 99th (`dark`) and 5th (`light`) percentile, its standard deviation, sharpness and entropy scores, mean chroma
(0: no color), the share of the area that uniform rows and columns along the sides take, and the share of height or
width that is plain middle grey at one side (`look_measure.filled_share`)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """One pass over N images."""

    frame: pl.DataFrame
    """N rows of `COLUMNS`."""
    hashes: NDArray[np.uint8]
    """(N, HASH_BYTES) perceptual hash of 256 bits: near duplicates differ in few bits."""
    tiny: NDArray[np.uint8]
    """(N, TINY_PX, TINY_PX, 3) the image stretched to 16 px, RGB."""

    def __len__(self) -> int:
        return self.frame.height


def survey(
    table: ImageTable, *, workers: int | None = None, progress: Progress | None = None
) -> tuple[ImageTable, Survey]:
    """The table as `scan(full=True)` leaves it, and what was found of each of its rows.

    Every file is decoded: one that is cut short or damaged is in `rejected`. `workers` threads (default: the CPUs
    allowed) change nothing but the time; `progress` is called with (rows done, rows in all).
    """
    gathered = _Gathered(hashes=np.empty((len(table), HASH_BYTES), np.uint8), tiny=_tiny(len(table)))
    done = 0
    with open_cache("surveys", look_settings()) as cache:
        for part in in_order(partial(_look_at, table, cache), len(table), workers):
            gathered.add(part)
            if cache is not None:
                for key, record in part.fresh:
                    cache.put(key, record)
            done += part.seen.height
            if progress is not None:
                progress(done, len(table))
    scanned = settled(table, pl.concat([pl.DataFrame(schema=SEEN), *gathered.seen]))
    return scanned, gathered.survey(scanned)


_FACTS = ("bytes", "format", "mode", "frames", "orientation", "camera", "taken", "gps", "personal")
_SUFFIXES = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "JPEG"),
    **dict.fromkeys(("png", "apng"), "PNG"),
    **dict.fromkeys(("bmp", "dib"), "BMP"),
    **dict.fromkeys(("tif", "tiff"), "TIFF"),
    **dict.fromkeys(("ppm", "pgm", "pbm", "pnm"), "PPM"),
    **dict.fromkeys(("heic", "heif"), "HEIF"),
    **dict.fromkeys(("jp2", "j2k", "jpx"), "JPEG 2000"),
    **{"gif": "GIF", "webp": "WEBP", "avif": "AVIF"},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Some rows in their order: what was seen of all, and for those that can be used facts and records."""

    seen: pl.DataFrame
    facts: pl.DataFrame
    records: NDArray[Any]
    """(rows that can be used,) of RECORD."""
    fresh: Sequence[tuple[bytes, NDArray[np.uint8]]]
    """Keys and records that the cache did not have."""


@dataclass(kw_only=True)
class _Gathered:
    """The parts so far; `hashes` and `tiny` are filled from the top, as far as `count`."""

    hashes: NDArray[np.uint8]
    tiny: NDArray[np.uint8]
    count: int = 0
    seen: list[pl.DataFrame] = field(default_factory=list)
    facts: list[pl.DataFrame] = field(default_factory=list)

    def add(self, part: _Part) -> None:
        records, end = part.records, self.count + len(part.records)
        self.hashes[self.count : end] = records["hash"]
        self.tiny[self.count : end] = records["tiny"]
        self.count = end
        self.seen.append(part.seen)
        measured = {name: records[name].astype(np.int64) for name in ("width", "height")}
        measured |= {name: records[name].astype(np.float64) for name in MEASURES}
        self.facts.append(part.facts.with_columns(pl.Series(name, values) for name, values in measured.items()))

    def survey(self, table: ImageTable) -> Survey:
        named = pl.coalesce(pl.col("member"), pl.when(pl.col("frame").is_null()).then(pl.col("uri")))
        suffix = named.str.extract(r"\.([A-Za-z0-9]+)$", 1).str.to_lowercase()
        known = suffix.replace_strict(_SUFFIXES, default=None, return_dtype=pl.String)
        suffixes = table.frame.select(pl.when(pl.col("frame").is_null()).then(known).alias("suffix"))
        facts = pl.concat([suffixes, pl.concat(self.facts)], how="horizontal") if self.facts else suffixes
        missing = [pl.lit(None, dtype=kind).alias(name) for name, kind in COLUMNS.items() if name not in facts.columns]
        frame = facts.with_columns(missing).select(list(COLUMNS)).cast(pl.Schema(COLUMNS))
        return Survey(frame=frame, hashes=self.hashes[: self.count], tiny=self.tiny[: self.count])


def _tiny(rows: int) -> NDArray[np.uint8]:
    return np.empty((rows, TINY_PX, TINY_PX, 3), np.uint8)


def _look_at(table: ImageTable, cache: Cache | None, rows: range) -> _Part:
    seen: list[Seen] = []
    facts: list[tuple[Any, ...]] = []
    records: list[NDArray[np.uint8]] = []
    fresh: list[tuple[bytes, NDArray[np.uint8]]] = []
    regions, whole = table.frame["region"][rows.start : rows.stop].to_list(), _Whole()
    for row, region in zip(rows, regions, strict=True):
        try:
            content = table.read_whole(row)
            digest = content_digest(content)
            key = content_key(digest, region)
            record = None if cache is None else cache.get(key)
            if record is None:
                record = look(content if region is None else cut_region(whole.pixels(digest, content), region))
                fresh.append((key, record))
            found = _facts(content)
        except ImageError as error:
            seen.append(refused_row(error))
            continue
        seen.append(seen_row(digest, found[0]))
        facts.append(found[1])
        records.append(record)
    return _Part(
        seen=pl.DataFrame(seen, schema=SEEN, orient="row"),
        facts=pl.DataFrame(facts, schema={name: COLUMNS[name] for name in _FACTS}, orient="row"),
        records=np.concatenate([np.empty(0, np.uint8), *records]).view(RECORD),
        fresh=fresh,
    )


def _facts(content: bytes | NDArray[Any]) -> tuple[ImageHeader, tuple[Any, ...]]:
    """The header, and the row of _FACTS."""
    if isinstance(content, bytes):
        header = read_header(content)
        size, origin = len(content), read_origin(content, header.format)
    else:
        header, size, origin = array_header(content), content.nbytes, NOWHERE
    about = (size, header.format, header.mode, header.frames, header.orientation)
    return header, (*about, origin.camera, origin.taken, origin.gps, origin.personal)


@dataclass(kw_only=True)
class _Whole:
    """The pixels of the last image that a region was cut from: regions of one image mostly follow each other."""

    digest: str | None = None
    last: Pixels | None = None

    def pixels(self, digest: str, content: bytes | NDArray[Any]) -> Pixels:
        if self.last is None or self.digest != digest:
            self.digest, self.last = digest, to_pixels(content)
        return self.last
