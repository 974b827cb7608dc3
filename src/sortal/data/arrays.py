"""Images kept as arrays: `.npz`, `.npy`, the binary CIFAR batches and the MNIST idx files, opened once and shared.

Stored arrays are mapped, not loaded; compressed ones are unpacked into memory once. Nothing here runs pickle.
"""

from __future__ import annotations

import gzip
import struct
import tarfile
import threading
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError, MachineError

Array = NDArray[Any]

CIFAR_SIDE_PX = 32
CIFAR_PIXELS = 3 * CIFAR_SIDE_PX**2
IDX_MAGIC = struct.Struct(">HBB")

_lock = threading.Lock()


def open_array(path: Path, member: str | None) -> Array:
    """The array of a file, or of one member of an archive, read-only. Images come as (N, H, W) or (N, H, W, C).

    Raises DataError for files that are damaged, hold objects or are no array file, MachineError when unreadable.
    """
    try:
        status = path.stat()
        with _lock:
            return _open(path, member, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise MachineError(f"cannot read this file: {error.strerror or error}", where=str(path)) from error
    except (ValueError, KeyError, EOFError, struct.error, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"not a readable array file: {error}", where=_where(path, member)) from error


def frame_pixels(path: Path, member: str | None, frame: int) -> Array:
    """Image number `frame`: a (H, W, C) copy, uint8 or uint16."""
    image = open_array(path, member)[frame]
    image = image if image.ndim == 3 else image[:, :, None]
    return np.array(image, dtype=image.dtype.newbyteorder("="), order="C")


def cifar_records(path: Path, member: str | None) -> Array:
    """A CIFAR batch as (N, bytes of one record): 1 label byte (CIFAR-10) or 2 (CIFAR-100), then 3,072 of pixels."""
    data = _cifar_bytes(path, member)
    for record in (CIFAR_PIXELS + 1, CIFAR_PIXELS + 2):
        if data.size and data.size % record == 0:
            return data.reshape(-1, record)
    raise DataError("not a whole number of CIFAR records", where=_where(path, member), received=f"{data.size:,} bytes")


@lru_cache(maxsize=16)
def _open(path: Path, member: str | None, _mtime_ns: int, _size: int) -> Array:
    name = path.name.lower()
    if name.endswith(".npz"):
        return _as_images(_open_npz(path, member or ""))
    if name.endswith(".npy"):
        return _as_images(np.load(path, mmap_mode="r", allow_pickle=False))
    if (member or name).endswith(".bin"):
        pixels = cifar_records(path, member)[:, -CIFAR_PIXELS:]
        return _locked(pixels.reshape(-1, 3, CIFAR_SIDE_PX, CIFAR_SIDE_PX).transpose(0, 2, 3, 1))
    return open_idx(path)


def _open_npz(path: Path, member: str) -> Array:
    mapped = _map_stored(path, member + ".npy")
    if mapped is not None:
        return mapped
    with np.load(path, allow_pickle=False) as archive:
        found: Array = archive[member]
        return found


def _map_stored(path: Path, member: str) -> Array | None:
    """The array as a memory map where the archive holds it uncompressed, else None."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        with archive.open(info) as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(file)
            inner = file.tell()
    if dtype.hasobject or not np.prod(shape):
        return None
    with path.open("rb") as raw:
        raw.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", raw.read(4))
    offset = info.header_offset + 30 + name_length + extra_length + inner
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")


def _as_images(array: Array) -> Array:
    """Channels last: (N, 1 or 3, H, W) is turned round, everything else is left alone."""
    channels_first = array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3, 4)
    return np.moveaxis(array, 1, -1) if channels_first else array


def open_idx(path: Path) -> Array:
    """An MNIST idx file (`.gz` or not) of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    zero, kind, axes = IDX_MAGIC.unpack_from(raw)
    if zero != 0 or kind != 8:
        raise DataError("not an idx file of unsigned bytes", where=str(path))
    shape = struct.unpack_from(f">{axes}I", raw, IDX_MAGIC.size)
    data = np.frombuffer(raw, np.uint8, offset=IDX_MAGIC.size + 4 * axes)
    return _locked(data.reshape(shape))


def _cifar_bytes(path: Path, member: str | None) -> Array:
    if member is None:
        return np.memmap(path, np.uint8, mode="r")
    status = path.stat()
    return np.frombuffer(_unpacked(path, status.st_mtime_ns, status.st_size)[member], np.uint8)


@lru_cache(maxsize=1)
def _unpacked(path: Path, _mtime_ns: int, _size: int) -> dict[str, bytes]:
    """Every `.bin` member of a CIFAR archive: it is compressed, so it can only be read from its beginning."""
    with tarfile.open(path, "r:*") as archive:
        members = [info for info in archive if info.isreg() and info.name.endswith(".bin")]
        return {info.name: file.read() for info in members if (file := archive.extractfile(info)) is not None}


def _locked(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _where(path: Path, member: str | None) -> str:
    return str(path) if member is None else f"{path}::{member}"
