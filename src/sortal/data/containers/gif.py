"""GIF: the first frame on the logical screen. Comments, later frames and applications' blocks are dropped."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader, corrupt, truncated

_EXTENSION, _IMAGE, _END, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9


_MOST_SUB_BLOCKS = 1_000_000
"""In one image; 40 megapixels that do not compress at all take a quarter of them."""
_MOST_FRAMES = 10_000


def header(data: bytes) -> ImageHeader:
    """Size of the screen (or of the first frame where that reaches beyond it) and the number of frames."""
    width, height = _screen(data)
    frames = 0
    try:
        for kind, start, _ in _blocks(data):
            if kind == _IMAGE:
                frames += 1
                if frames >= _MOST_FRAMES:
                    break
                if frames == 1:
                    left, top, across, down = struct.unpack_from("<4H", data, start + 1)
                    width, height = max(width, left + across), max(height, top + down)
    except ImageError:
        pass
    return ImageHeader(format="GIF", width=width, height=height, mode="P", frames=max(1, frames))


def strip(data: bytes) -> bytes:
    """Header, palette, the first frame's control block and the first frame."""
    _screen(data)
    control = b""
    for kind, start, end in _blocks(data):
        if kind == _CONTROL and end - start == 8:
            control = data[start:end]
        if kind == _IMAGE:
            return data[: _table_end(data, 13, data[10])] + control + data[start:end] + b";"
    raise corrupt("a GIF without an image")


def _screen(data: bytes) -> tuple[int, int]:
    if len(data) < 13:
        raise truncated("the GIF header ends early")
    width, height = struct.unpack_from("<HH", data, 6)
    return int(width), int(height)


def _blocks(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, start, end) of every image and graphic control block; other extensions are passed over."""
    position = _table_end(data, 13, data[10])
    while position < len(data):
        start, kind = position, data[position]
        if kind == _END:
            return
        if kind == 0:
            position += 1
            continue
        if kind not in (_EXTENSION, _IMAGE):
            raise corrupt(f"unknown GIF block {kind:02X}")
        if start + 11 > len(data):
            raise truncated("the GIF ends inside a block")
        if kind == _IMAGE:
            position = _sub_blocks_end(data, _table_end(data, start + 10, data[start + 9]) + 1)
            yield _IMAGE, start, position
        else:
            position = _sub_blocks_end(data, start + 2)
            yield data[start + 1] if data[start + 1] == _CONTROL else _EXTENSION, start, position
    raise truncated("the GIF has no end")


def _table_end(data: bytes, start: int, flags: int) -> int:
    end = start + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    if end > len(data):
        raise truncated("the GIF ends inside a palette")
    return end


def _sub_blocks_end(data: bytes, position: int) -> int:
    for _ in range(_MOST_SUB_BLOCKS):
        if position >= len(data):
            raise truncated("the GIF ends inside a block")
        size = data[position]
        position += size + 1
        if size == 0:
            return position
    raise corrupt(f"a GIF block of more than {_MOST_SUB_BLOCKS} pieces")
