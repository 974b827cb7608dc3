"""One file of a cache: many arrays of one shape behind a header that can be checked. Written whole, mapped to be read.

8 bytes   magic
4 bytes   length of the JSON, little-endian
JSON      {"count", "dtype", "shape", "start"}
count x 32 bytes   keys
count x 4 bytes    CRC-32 of each item, little-endian
32 bytes  SHA-256 of everything before
start ... items, one behind the other, to the end of the file
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32
SUFFIX = ".pack"

_MAGIC = b"SORTPAK1"
_LENGTH = struct.Struct("<I")
_ALIGNED = 4096
_MOST_HEADER_BYTES = 4096
_KINDS = {"|u1", "<u2", "<f4"}


class DamagedPackError(Exception):
    """The file is cut, altered or of another kind; what it held has to be made again."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """An open pack. Its items stay readable where the file is deleted meanwhile."""

    path: Path
    keys: tuple[bytes, ...]
    checks: NDArray[np.uint32]
    items: NDArray[Any]
    """(count, *shape), mapped read-only."""

    def item(self, number: int) -> NDArray[Any]:
        """One item, a read-only view. Raises DamagedPackError where its bytes are not those that were written."""
        found: NDArray[Any] = self.items[number]
        if zlib.crc32(found.reshape(-1).view(np.uint8).data) != int(self.checks[number]):
            raise DamagedPackError(f"{self.path}: item {number} was altered")
        return found


def encode_pack(keys: Sequence[bytes], items: Sequence[NDArray[Any]]) -> bytes:
    """The bytes of a pack; all items have the shape and type (uint8, uint16, float32) of the first."""
    first = items[0]
    little = first.dtype.newbyteorder("<")
    parts = [np.ascontiguousarray(item, dtype=little).reshape(-1).view(np.uint8).data for item in items]
    checks = np.array([zlib.crc32(part) for part in parts], dtype="<u4")
    about: dict[str, Any] = {"count": len(items), "dtype": little.str, "shape": list(first.shape), "start": 0}
    size = len(_MAGIC) + _LENGTH.size + len(json.dumps(about)) + 16 + len(items) * (KEY_BYTES + 4) + 32
    about["start"] = -(-size // _ALIGNED) * _ALIGNED
    text = json.dumps(about).encode()
    head = b"".join([_MAGIC, _LENGTH.pack(len(text)), text, *keys, checks.tobytes()])
    head += hashlib.sha256(head).digest()
    return b"".join([head.ljust(about["start"], b"\0"), *parts])


def open_pack(path: Path) -> Pack:
    """Check the header and map the items. Raises DamagedPackError, or OSError where the file cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC) + _LENGTH.size)
            about = _about(head, file.read(_MOST_HEADER_BYTES))
            rest = about["count"] * (KEY_BYTES + 4) + 32
            file.seek(len(head) + about["length"])
            behind = file.read(rest)
            size = file.seek(0, 2)
        return _mapped(path, about, head, behind, size)
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise DamagedPackError(f"{path}: {error}") from error


def _about(head: bytes, text: bytes) -> dict[str, Any]:
    if head[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not a pack")
    length = int(_LENGTH.unpack(head[len(_MAGIC) :])[0])
    raw = text[:length]
    about = json.loads(raw)
    count, start, shape = int(about["count"]), int(about["start"]), tuple(int(side) for side in about["shape"])
    if count < 1 or start < 1 or min(shape, default=1) < 1 or about["dtype"] not in _KINDS:
        raise ValueError("a header that makes no sense")
    return {
        "count": count,
        "start": start,
        "shape": shape,
        "dtype": np.dtype(about["dtype"]),
        "length": length,
        "raw": raw,
    }


def _mapped(path: Path, about: dict[str, Any], head: bytes, behind: bytes, size: int) -> Pack:
    count, start, dtype = about["count"], about["start"], about["dtype"]
    if size != start + count * dtype.itemsize * int(np.prod(about["shape"])):
        raise ValueError("not as long as its header says")
    if hashlib.sha256(head + about["raw"] + behind[:-32]).digest() != behind[-32:]:
        raise ValueError("an altered header")
    keys = tuple(behind[n * KEY_BYTES : (n + 1) * KEY_BYTES] for n in range(count))
    checks = np.frombuffer(behind, "<u4", count, count * KEY_BYTES).astype(np.uint32)
    items = np.memmap(path, dtype=dtype, mode="r", offset=start, shape=(count, *about["shape"]))
    return Pack(path=path, keys=keys, checks=checks, items=items)
