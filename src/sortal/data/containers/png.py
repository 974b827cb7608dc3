"""PNG: chunks with checksums. IHDR, PLTE, tRNS, IDAT and IEND reach the decoder; nothing else does.

So a text, profile or animation chunk can neither fill memory nor fail. Of an APNG the default image is read. A wrong
checksum of a chunk that pixels need is damage; a damaged tRNS is ignored, as libpng does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader, corrupt, truncated
from sortal.data.containers.tiff import exif_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 200_000
_PIECE = 65536
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, column step and row step of each Adam7 pass."""
_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}


def header(data: bytes) -> ImageHeader:
    """Size and mode from IHDR, frames from acTL, orientation from eXIf; tolerant of a file that ends early."""
    width, height, bits, color = _image_header(data)
    frames = orientation = 1
    try:
        for kind, start, end in _chunks(data):
            if kind == b"acTL" and end - start >= 4:
                frames = max(1, struct.unpack_from(">I", data, start)[0])
            if kind == b"eXIf":
                orientation = exif_orientation(data[start:end])
    except ImageError:
        pass
    return ImageHeader(
        format="PNG", width=width, height=height, mode=_mode(bits, color), frames=frames, orientation=orientation
    )


def strip(data: bytes) -> bytes:
    """Signature and the chunks that pixels need; raises ImageError for a missing end or a wrong checksum."""
    _, _, bits, color = _image_header(data)
    parts, has_palette = [SIGNATURE], color != 3
    for kind, start, end in _chunks(data):
        if kind not in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            continue
        if zlib.crc32(data[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            if kind == b"tRNS":
                continue
            raise corrupt(f"the checksum of PNG chunk {kind.decode()} is wrong")
        has_palette |= kind == b"PLTE"
        if kind == b"tRNS" and color == 0 and bits < 8:
            parts.append(_chunk(kind, _widened(data[start:end], bits)))
        else:
            parts.append(data[start - 8 : end + 4])
        if kind == b"IEND" and not has_palette:
            raise corrupt("a PNG of palette indices without a palette")
        if kind == b"IEND":
            return b"".join(parts)
    raise truncated("the PNG has no end chunk")


def as_byte_pairs(stripped: bytes) -> bytes:
    """16-bit grey with alpha, relabeled as 8-bit RGBA whose bytes are (high, low, high alpha, low alpha)."""
    content = bytearray(stripped[16:29])
    content[8:10] = b"\x08\x06"
    return stripped[:8] + _chunk(b"IHDR", bytes(content)) + stripped[33:]


def has_all_rows(stripped: bytes) -> bool:
    """Whether the compressed stream inflates to every row; Pillow leaves missing rows black without a word."""
    width, height, bits, color = _image_header(stripped)
    samples = bits * _SAMPLES[color]
    if stripped[28]:
        sizes = [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in _PASSES]
    else:
        sizes = [(width, height)]
    missing = sum(down * (1 + (across * samples + 7) // 8) for across, down in sizes if across)
    for size in _inflated(stripped):
        missing -= size
        if missing <= 0:
            return True
    return False


def _inflated(stripped: bytes) -> Iterator[int]:
    """Sizes of the pieces, at most 1 MiB each, that the pixels' stream inflates to."""
    inflater, view = zlib.decompressobj(), memoryview(stripped)
    for kind, start, end in _chunks(stripped):
        for position in range(start, end if kind == b"IDAT" else start, _PIECE):
            waiting: memoryview | bytes = view[position : min(position + _PIECE, end)]
            while waiting:
                yield len(inflater.decompress(waiting, 2**20))
                waiting = inflater.unconsumed_tail


def _image_header(data: bytes) -> tuple[int, int, int, int]:
    if len(data) < 33:
        raise truncated("the PNG header ends early")
    if data[8:16] != b"\0\0\0\rIHDR":
        raise corrupt("the PNG does not begin with its header chunk")
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    if color not in _MODES or bits not in (1, 2, 4, 8, 16):
        raise corrupt(f"PNG color type {color} with {bits} bits does not exist")
    return width, height, bits, color


def _mode(bits: int, color: int) -> str:
    if color == 0 and bits in (1, 16):
        return "1" if bits == 1 else "I;16"
    return _MODES[color] + (";16" if bits == 16 else "")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of every chunk's content, up to IEND."""
    position, count = len(SIGNATURE), 0
    while position < len(data):
        count += 1
        if count > _MOST_CHUNKS:
            raise corrupt(f"a PNG of more than {_MOST_CHUNKS} chunks")
        start = position + 8
        if start > len(data):
            raise truncated("the PNG ends inside a chunk")
        end = start + int(struct.unpack_from(">I", data, position)[0])
        if end + 4 > len(data):
            raise truncated("the PNG ends inside a chunk")
        kind = data[position + 4 : start]
        yield kind, start, end
        if kind == b"IEND":
            return
        position = end + 4


def write(pixels: NDArray[Any], *, level: int = 6) -> bytes:
    """A file of (H, W, 1, 3 or 4) uint8 or uint16; `level` is zlib's, 0 to 9. Pillow writes no colors of 16 bits
    (W3C PNG, third edition, 2025)."""
    height, width, channels = pixels.shape
    samples = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    lines = np.zeros((height, 1 + samples.shape[1]), np.uint8)  # the first byte says that a line is not filtered
    lines[:, 1:] = samples
    color = {1: 0, 3: 2, 4: 6}[channels]
    start = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, color, 0, 0, 0)
    chunks = ((b"IHDR", start), (b"IDAT", zlib.compress(lines.tobytes(), level)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _widened(content: bytes, bits: int) -> bytes:
    """The transparent grey level on the scale 0..255 that Pillow expands 1, 2 and 4-bit samples to."""
    if len(content) < 2:
        return content
    return struct.pack(">H", (struct.unpack_from(">H", content)[0] & ((1 << bits) - 1)) * 255 // ((1 << bits) - 1))
