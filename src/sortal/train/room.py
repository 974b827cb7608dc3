"""Where prepared pixels of one run are: in memory, in a file of the run, in packs of the shared cache, or nowhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.core.publish import machine_error
from sortal.data.cache import Cache

_DISK_SHARE = 0.5
"""Largest share of the free disk space that prepared pixels may take."""


class Taken(Protocol):
    """Pixels that are read by sample numbers: an array, or something that is indexed like one."""

    def __getitem__(self, samples: NDArray[np.int64], /) -> Pixels:
        """(len(samples), height, width, C)."""


class Room(Protocol):
    """Receives images, from any thread and in any order, each position once."""

    def place(self, position: int, image: Pixels, key: bytes | None, /) -> None:
        """Keep one image."""

    def settled(self) -> Taken | None:
        """What holds them; None where they are to be decoded on demand. After the cache was flushed."""


class InArray:
    """Room in an array."""

    def __init__(self, array: Pixels):
        self._array = array

    def place(self, position: int, image: Pixels, _key: bytes | None, /) -> None:
        """Copy it."""
        self._array[position] = image

    def settled(self) -> Taken:
        """The array."""
        return self._array


class Nowhere:
    """No room."""

    def place(self, _position: int, _image: Pixels, _key: bytes | None, /) -> None:
        """Nothing."""

    def settled(self) -> None:
        """Nothing."""


class InPacks:
    """Room in the cache, where images were put or found; the few that are not there are made by `again`."""

    def __init__(self, cache: Cache, shape: tuple[int, ...], dtype: np.dtype[Any], again: Callable[[int], Pixels]):
        self._cache, self._shape, self._dtype, self._again = cache, shape, dtype, again
        self._keys: list[bytes | None] = [None] * shape[0]
        self._views: list[Pixels | None] = []

    def place(self, position: int, _image: Pixels, key: bytes | None, /) -> None:
        """Remember where it is."""
        self._keys[position] = key

    def settled(self) -> Taken:
        """Views into the packs."""
        self._views = [None if key is None else self._cache.get(key) for key in self._keys]
        return self

    def __getitem__(self, samples: NDArray[np.int64], /) -> Pixels:
        found = np.empty((len(samples), *self._shape[1:]), self._dtype)
        for position, sample in enumerate(samples):
            view = self._views[sample]
            found[position] = self._again(int(sample)) if view is None else view
        return found


class Some:
    """Some rows of an array, without copying it."""

    def __init__(self, array: Taken, rows: NDArray[np.int64]):
        self._array, self._rows = array, rows

    def __getitem__(self, samples: NDArray[np.int64], /) -> Pixels:
        return np.asarray(self._array[self._rows[samples]])


@contextmanager
def memory_or_file(
    folder: Path | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, memory_bytes: int
) -> Iterator[Room]:
    """Room in memory for up to `memory_bytes`, in a file of `folder` for more, nowhere where the disk is too full.

    The file is removed when the block ends. Raises MachineError when the folder cannot be written.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= memory_bytes:
        yield InArray(np.empty(shape, dtype))
    elif folder is None or not _has_room(folder, size):
        yield Nowhere()
    else:
        path = folder / name
        try:
            yield InArray(_file(path, shape, dtype))
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                folder.rmdir()


def _has_room(folder: Path, size_bytes: int) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return size_bytes <= shutil.disk_usage(folder).free * _DISK_SHARE
    except OSError as error:
        raise machine_error(error, folder) from error


def _file(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> Pixels:
    try:
        mapped: Pixels = np.memmap(path, dtype=dtype, mode="w+", shape=tuple(shape))
    except OSError as error:
        raise machine_error(error, path.parent) from error
    return mapped
