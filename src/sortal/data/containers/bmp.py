"""BMP: a header and plain rows. Run-length coded and embedded-JPEG bitmaps are refused."""

from __future__ import annotations

import struct

from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader, corrupt, truncated

_MODES = {1: "P", 4: "P", 8: "P", 16: "RGB", 24: "RGB", 32: "RGB"}


def header(data: bytes) -> ImageHeader:
    """Size and mode; a negative height (rows from the top) is taken as its amount."""
    width, height, bits, _ = _fields(data)
    return ImageHeader(format="BMP", width=width, height=abs(height), mode=_MODES.get(bits, "?"))


def strip(data: bytes) -> bytes:
    """The file itself, once its rows are known to be there."""
    width, height, bits, compression = _fields(data)
    if bits not in _MODES:
        raise corrupt(f"a BMP of {bits} bits a pixel")
    if compression not in (0, 3):
        raise ImageError("format_not_allowed", f"BMP compression {compression} is not opened")
    offset = struct.unpack_from("<I", data, 10)[0]
    if offset + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise truncated("the BMP ends before its pixels do")
    return data


def _fields(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, bits a pixel and compression."""
    if len(data) < 26:
        raise truncated("the BMP header ends early")
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        return width, height, bits, 0
    if len(data) < 54:
        raise truncated("the BMP header ends early")
    width, height, _, bits, compression = struct.unpack_from("<IiHHI", data, 18)
    return width, height, bits, compression
