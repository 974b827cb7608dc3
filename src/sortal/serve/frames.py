"""What the front process and a worker say to each other: a header of JSON, then blobs of bytes, over a socket.

    length of the header, 4 bytes big-endian · header, UTF-8 JSON with "sizes": [bytes of each blob] · blobs

Nothing that arrives is executed, and a frame that is longer than it may be ends the connection.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from sortal.serve.memory import BatchMemory

_LENGTH = struct.Struct("!I")
MOST_HEADER = 16 * 1024 * 1024

FILES, PIXELS = "files", "pixels"
"""What the blobs of a question are: encoded images, or rows of 8-bit pixels of the network's size."""

NOT_FINITE = "not_finite"
"""The code of an answer that is none, because the network gave NaN or infinity."""


class FrameError(ConnectionError):
    """What arrived is no frame."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One message."""

    header: dict[str, Any]
    blobs: tuple[bytes, ...] = ()


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """The bytes of a frame, in pieces."""
    text = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}, ensure_ascii=False).encode()
    return [_LENGTH.pack(len(text)), text, *blobs]


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises ConnectionError or IncompleteReadError where the other side is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    header = _header(await reader.readexactly(_checked(length)))
    blobs = [await reader.readexactly(size) for size in header.pop("sizes")]
    return Frame(header=header, blobs=tuple(blobs))


def receive(channel: socket, memory: BatchMemory | None = None) -> Frame | None:
    """As `read_frame`, blocking; None where the other side has ended. Blobs that were `laid` into the shared memory are
    taken from there."""
    first = _exactly(channel, _LENGTH.size)
    if first is None:
        return None
    (length,) = _LENGTH.unpack(first)
    header = _header(_exactly(channel, _checked(length)) or b"")
    blobs = [_exactly(channel, size) or b"" for size in header.pop("sizes")]
    if memory is not None and "laid" in header:
        blobs = memory.get(header.pop("laid"))
    return Frame(header=header, blobs=tuple(blobs))


def send(channel: socket, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Send a frame, blocking."""
    channel.sendall(b"".join(pack(header, blobs)))


def _checked(length: int) -> int:
    if length > MOST_HEADER:
        raise FrameError(f"a header of {length:,} bytes")
    return length


def _header(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FrameError("a header that is no JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("sizes"), list):
        raise FrameError("a header without sizes")
    return found


def _exactly(channel: socket, count: int) -> bytes | None:
    """`count` bytes; None where the other side ended before the first of them."""
    parts, missing = [], count
    while missing:
        part = channel.recv(min(missing, 1 << 20))
        if not part:
            if missing == count:
                return None
            raise FrameError("the other side ended in the middle of a frame")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
