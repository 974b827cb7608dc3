"""WebP: a RIFF of chunks, lossy (VP8), lossless (VP8L) or extended (VP8X, animated or with alpha).

Sizes are read here because Pillow's decoder reserves the whole canvas as soon as it opens a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader, corrupt, truncated
from sortal.data.containers.tiff import exif_orientation

_MOST_CHUNKS = 100_000


def header(data: bytes) -> ImageHeader:
    """Size of the canvas, whether it has alpha, frames and EXIF orientation."""
    if len(data) < 30:
        raise truncated("the WebP header ends early")
    width, height, alpha = _canvas(data)
    frames, orientation = 0, 1
    try:
        for kind, start, end in _chunks(data):
            frames += kind == b"ANMF"
            if kind == b"EXIF":
                orientation = exif_orientation(data[start:end])
    except ImageError:
        pass
    mode = "RGBA" if alpha else "RGB"
    return ImageHeader(
        format="WEBP", width=width, height=height, mode=mode, frames=max(1, frames), orientation=orientation
    )


def strip(data: bytes) -> bytes:
    """The RIFF without what follows it; raises ImageError where it ends early."""
    size = 8 + struct.unpack_from("<I", data, 4)[0]
    if size > len(data):
        raise truncated("the WebP ends before its RIFF does")
    for _ in _chunks(data[:size]):
        pass
    return data[:size]


def _canvas(data: bytes) -> tuple[int, int, bool]:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return width, int.from_bytes(data[27:30], "little") + 1, bool(data[20] & 0x10)
    if kind == b"VP8L":
        packed = struct.unpack_from("<I", data, 21)[0]
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, bool(packed >> 28 & 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF, False
    raise corrupt("a WebP without an image")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position, count = 12, 0
    while position + 8 <= len(data):
        count += 1
        if count > _MOST_CHUNKS:
            raise corrupt(f"a WebP of more than {_MOST_CHUNKS} chunks")
        size = int(struct.unpack_from("<I", data, position + 4)[0])
        end = position + 8 + size
        if end > len(data):
            raise truncated("the WebP ends inside a chunk")
        yield data[position : position + 4], position + 8, end
        position = end + size % 2
