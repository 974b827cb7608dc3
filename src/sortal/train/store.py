"""Prepared training pixels: every image decoded and resized once, kept as samples, read many times.

Reading a prepared image back is 15 to 100 times faster than decoding it again. Little is kept in memory; much lies in
the cache that runs share (`data.cache`), else in a file of this run, else images are decoded each time they are needed;
the pixels are the same. An image that cannot be read is a Finding and its row is left out; it never becomes a black
square.

Workers are threads: simplejpeg, Pillow, torch's resize and hashing release the interpreter lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError, ImageError
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.data.cache import Cache, content_keys, open_cache, read_with_key
from sortal.data.decode import to_pixels
from sortal.data.table import ImageTable
from sortal.train import room
from sortal.train.cached import image_settings
from sortal.train.fast_pixels import fast_prepare

Decoding = Literal["reference", "fast"]
MEMORY_BYTES = 256 << 20
"""Up to this much is kept in memory and not in a file."""
_GROUP = 8

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Images:
    """Labeled images of one split, prepared by `spec`. Position in these arrays is what a sample number means."""

    table: ImageTable
    rows: NDArray[np.int64]
    """(N,) rows of the table."""
    labels: NDArray[np.int64]
    """(N,) class indices."""
    spec: PreprocessSpec
    decoding: Decoding = "reference"
    pixels: room.Taken | None = field(default=None, repr=False)
    """(N, height, width, channels), or None where images are decoded on demand."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, samples: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """(len(samples), height, width, channels). Raises ImageError where a file has gone since it was first read."""
        if self.pixels is not None:
            return np.asarray(self.pixels[np.asarray(samples)])
        found = np.empty((len(samples), *self.spec.size, self.spec.channels), _dtype(self.spec))
        for position, sample in enumerate(samples):
            found[position] = read_image(self.table, int(self.rows[sample]), self.spec, self.decoding)
        return found


def read_image(table: ImageTable, row: int, spec: PreprocessSpec, decoding: Decoding = "reference") -> Pixels:
    """One image of the table, decoded and prepared. Raises ImageError that names the row."""
    with _named(table, row):
        return _prepare(spec, table.read(row), decoding)


def read_image_and_key(
    table: ImageTable, row: int, spec: PreprocessSpec, decoding: Decoding = "reference"
) -> tuple[Pixels, bytes]:
    """Like `read_image`, with the key under which the cache files it, made from the bytes that were decoded."""
    with _named(table, row):
        source, key = read_with_key(table, row)
        return _prepare(spec, source, decoding), key


@contextmanager
def prepared(
    table: ImageTable,
    rows: NDArray[np.int64],
    spec: PreprocessSpec,
    *,
    folder: Path | None,
    threads: int,
    listener: Listener,
    stage: str,
    decode: Decoding = "reference",
    keep: bool = False,
) -> Iterator[tuple[Images, tuple[Finding, ...]]]:
    """Read all labeled `rows` once; what lies in `folder` (None: memory alone) is removed when the block ends.

    `fast` decoding is for training images alone. With `keep`, images come from the cache that runs share as far as it
    has them, and are put there. Raises DataError where no image can be read.
    """
    labels = table.label_array()
    rows = rows[labels[rows] >= 0]
    with ExitStack() as stack:
        cache = stack.enter_context(open_cache("images", image_settings(spec, decode))) if keep else None
        work = _Work(table=table, rows=rows, spec=spec, decoding=decode, cache=cache)
        place = stack.enter_context(_room(work, folder, stage))
        errors = _fill(work, place, threads, listener, stage)
        if len(errors) == len(rows):
            raise DataError("none of these images can be read", where=f"{table.source} ({stage})")
        pixels = place.settled()
        readable = np.delete(np.arange(len(rows)), sorted(errors))
        if pixels is not None and errors:
            pixels = room.Some(pixels, readable)
        kept = rows[readable]
        found = Images(table=table, rows=kept, labels=labels[kept], spec=spec, decoding=decode, pixels=pixels)
        yield found, unreadable(table, rows, errors)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What is to be read, and how."""

    table: ImageTable
    rows: NDArray[np.int64]
    spec: PreprocessSpec
    decoding: Decoding
    cache: Cache | None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.spec.size, self.spec.channels)

    def image(self, position: int) -> Pixels:
        return read_image(self.table, int(self.rows[position]), self.spec, self.decoding)

    def image_and_key(self, position: int) -> tuple[Pixels, bytes | None]:
        if self.cache is None:
            return self.image(position), None
        return read_image_and_key(self.table, int(self.rows[position]), self.spec, self.decoding)


@contextmanager
def _room(work: _Work, folder: Path | None, stage: str) -> Iterator[room.Room]:
    """Packs of the cache where there is much and they have room, else memory or a file of the run."""
    dtype = _dtype(work.spec)
    size = int(np.prod(work.shape)) * dtype.itemsize
    if work.cache is not None and size > MEMORY_BYTES and work.cache.room_for(size):
        yield room.InPacks(work.cache, work.shape, dtype, work.image)
        return
    height, width = work.spec.size
    name = f"{stage.replace(' ', '_')}_{height}x{width}.pixels"
    with room.memory_or_file(folder, name, work.shape, dtype, memory_bytes=MEMORY_BYTES) as place:
        yield place


def _fill(work: _Work, place: room.Room, threads: int, listener: Listener, stage: str) -> dict[int, ImageError]:
    """Read every row, also where there is no room to keep it: unreadable ones are known before training starts.

    Returns what was wrong, by position in `work.rows`.
    """
    cache = work.cache
    keys = [None] * len(work.rows) if cache is None else content_keys(work.table, work.rows)
    errors: dict[int, ImageError] = {}
    hits = 0
    results = in_groups(lambda position: _one(work, place, keys[position], position), len(work.rows), threads=threads)
    for position, result in enumerate(results):
        if isinstance(result, ImageError):
            errors[position] = result
        elif result is None:
            hits += 1
        elif cache is not None and result[1] is not None:
            cache.put(result[1], result[0])
        listener.progress(stage, position + 1, len(work.rows))
    tell_of_cache(cache, hits, len(work.rows), listener, stage)
    return errors


def _one(
    work: _Work, place: room.Room, key: bytes | None, position: int
) -> tuple[Pixels, bytes | None] | ImageError | None:
    """Put one image into its place: what had to be made, with its key, None where it came from the cache."""
    kept = None if work.cache is None or key is None else work.cache.get(key)
    if kept is not None:
        place.place(position, kept, key)
        return None
    try:
        image, key = work.image_and_key(position)
    except ImageError as error:
        return error
    place.place(position, image, key)
    return image, key


def tell_of_cache(cache: Cache | None, hits: int, total: int, listener: Listener, stage: str) -> None:
    """Wait until everything is written, and say what came from the cache and why nothing more is kept, if so."""
    if cache is None:
        return
    cache.flush()
    if hits:
        listener.say(f"{stage}: {hits:,} of {total:,} from the cache")
    if cache.note is not None:
        listener.say(f"{stage}: {cache.note}")


def unreadable(table: ImageTable, rows: NDArray[np.int64], errors: dict[int, ImageError]) -> tuple[Finding, ...]:
    """The finding about images that were left out; `errors` maps positions in `rows` to what was wrong."""
    if not errors:
        return ()
    names = tuple(table.name(int(rows[position])) for position in sorted(errors))
    first = errors[min(errors)]
    message = f"{len(errors)} of {len(rows)} images cannot be read and are left out; the first: {first.what}"
    return (Finding(code="unreadable", severity="warning", message=message, rows=names[:1000]),)


def in_order(function: Callable[[int], Result], items: range, *, threads: int, ahead: int = 64) -> Iterator[Result]:
    """`function` over `items` in `threads` threads (0: in this one), results in order, at most `ahead` begun early."""
    if threads == 0:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="sortal-data") as pool:
        left = iter(items)
        begun: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(left, ahead))
        try:
            while begun:
                result = begun.popleft().result()
                begun.extend(pool.submit(function, item) for item in islice(left, 1))
                yield result
        finally:
            for future in begun:
                future.cancel()


def in_groups(function: Callable[[int], Result], count: int, *, threads: int) -> Iterator[Result]:
    """`function` over 0..count-1 in order, eight to a task: handing over single images costs a tenth of their time."""

    def group(start: int) -> list[Result]:
        return [function(number) for number in range(start, min(start + _GROUP, count))]

    for results in in_order(group, range(0, count, _GROUP), threads=threads, ahead=2 * threads + 2):
        yield from results


def _prepare(spec: PreprocessSpec, source: bytes | NDArray[Any], decoding: Decoding) -> Pixels:
    if decoding == "fast":
        return fast_prepare(spec, source)
    return prepare(spec, to_pixels(source, channels=spec.channels, depth=spec.depth))


@contextmanager
def _named(table: ImageTable, row: int) -> Iterator[None]:
    """Errors of the block name the row; names are not made for images that are fine."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.code, error.what, where=table.name(row), received=error.received) from error


def _dtype(spec: PreprocessSpec) -> np.dtype[Any]:
    return np.dtype(np.uint8 if spec.depth == 8 else np.uint16)
