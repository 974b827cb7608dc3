"""Prepared training pixels: every image decoded and resized once, kept as samples in a file, read many times.

Reading a prepared image back is 15 to 100 times faster than decoding it again. Where the disk has no room, images are
decoded each time they are needed; the pixels are the same. An image that cannot be read is a Finding and its row is
left out; it never becomes a black square.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError, ImageError
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.core.progress import Listener
from sortal.core.publish import machine_error
from sortal.core.report import Finding
from sortal.data.decode import to_pixels
from sortal.data.table import ImageTable

MEMORY_BYTES = 256 << 20
"""Up to this much is kept in memory and not in a file."""
_DISK_SHARE = 0.5
"""Largest share of the free disk space that prepared pixels may take."""

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
    pixels: Pixels | None = field(default=None, repr=False)
    """(N, height, width, channels), or None where images are decoded on demand."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, samples: Sequence[int] | NDArray[np.int64]) -> Pixels:
        """(len(samples), height, width, channels). Raises ImageError where a file has gone since it was first read."""
        if self.pixels is not None:
            return np.asarray(self.pixels[np.asarray(samples)])
        return np.stack([read_image(self.table, int(self.rows[sample]), self.spec) for sample in samples])


def read_image(table: ImageTable, row: int, spec: PreprocessSpec) -> Pixels:
    """One image of the table, decoded and prepared. Raises ImageError that names the row."""
    image = to_pixels(table.read(row), channels=spec.channels, depth=spec.depth, where=table.name(row))
    return prepare(spec, image)


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
) -> Iterator[tuple[Images, tuple[Finding, ...]]]:
    """Read all labeled `rows` once; the file in `folder` (None: memory alone) is removed when the block ends.

    Raises DataError where no image can be read.
    """
    labels = table.label_array()
    rows = rows[labels[rows] >= 0]
    space = _Space(folder=folder, name=f"{stage.replace(' ', '_')}.pixels")
    try:
        pixels = space.claim((len(rows), *spec.size, spec.channels), np.uint8 if spec.depth == 8 else np.uint16)
        readable, findings = _fill(table, rows, spec, pixels, threads, listener, stage)
        if not readable.any():
            raise DataError("none of these images can be read", where=f"{table.source} ({stage})")
        if pixels is not None and not readable.all():
            pixels = _Kept(pixels, np.flatnonzero(readable))  # type: ignore[assignment]
        kept = rows[readable]
        yield Images(table=table, rows=kept, labels=labels[kept], spec=spec, pixels=pixels), findings
    finally:
        space.release()


class _Kept:
    """Some rows of an array, without copying it."""

    def __init__(self, array: Pixels, rows: NDArray[np.int64]):
        self._array, self._rows = array, rows

    def __getitem__(self, samples: NDArray[np.int64]) -> Pixels:
        return np.asarray(self._array[self._rows[samples]])


class _Space:
    """Room for prepared pixels: memory for little, a file for much, nothing where the disk is too full."""

    def __init__(self, *, folder: Path | None, name: str):
        self._folder = folder
        self._path = None if folder is None else folder / name

    def claim(self, shape: tuple[int, ...], dtype: Any) -> Pixels | None:
        """An array to fill, or None. Raises MachineError when the folder cannot be written."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size <= MEMORY_BYTES:
            return np.empty(shape, dtype)
        if self._folder is None or self._path is None:
            return None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if size > shutil.disk_usage(self._folder).free * _DISK_SHARE:
                return None
            return np.memmap(self._path, dtype=dtype, mode="w+", shape=shape)
        except OSError as error:
            raise machine_error(error, self._folder) from error

    def release(self) -> None:
        """Remove the file, and the folder if it is empty then."""
        if self._path is not None and self._folder is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
                self._folder.rmdir()


def _fill(
    table: ImageTable,
    rows: NDArray[np.int64],
    spec: PreprocessSpec,
    pixels: Pixels | None,
    threads: int,
    listener: Listener,
    stage: str,
) -> tuple[NDArray[np.bool_], tuple[Finding, ...]]:
    """Decode every row, also where there is no room to keep it: unreadable ones are known before training starts."""

    def read(position: int) -> ImageError | None:
        try:
            image = read_image(table, int(rows[position]), spec)
        except ImageError as error:
            return error
        if pixels is not None:
            pixels[position] = image
        return None

    errors: dict[int, ImageError] = {}
    for position, error in enumerate(in_order(read, range(len(rows)), threads=threads)):
        if error is not None:
            errors[position] = error
        listener.progress(stage, position + 1, len(rows))
    readable = np.ones(len(rows), np.bool_)
    readable[list(errors)] = False
    return readable, unreadable(table, rows, errors)


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
        begun: list[Future[Result]] = [pool.submit(function, item) for item in islice(left, ahead)]
        try:
            while begun:
                result = begun.pop(0).result()
                begun.extend(pool.submit(function, item) for item in islice(left, 1))
                yield result
        finally:
            for future in begun:
                future.cancel()
