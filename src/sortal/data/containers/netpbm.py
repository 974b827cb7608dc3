"""Binary PBM, PGM and PPM (P4, P5, P6) of any maximum, read whole here. The plain-text kinds are refused.

Pillow scales maxima other than 255 sample by sample in Python and reduces 16-bit color to 8 bits, so it is not used.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader, corrupt, truncated

_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"
_FIELDS = re.compile(rb"P([456])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})")
_MAXIMUM = re.compile(_GAP + rb"(\d{1,6})\s")


def header(data: bytes) -> ImageHeader:
    """Size and mode."""
    kind, width, height, maximum, _ = _fields(data)
    wide = maximum > 255
    mode = {4: "1", 5: "I;16" if wide else "L", 6: "RGB;16" if wide else "RGB"}[kind]
    return ImageHeader(format="PPM", width=width, height=height, mode=mode)


def read(data: bytes) -> NDArray[np.unsignedinteger[Any]]:
    """(height, width, 1 or 3), uint8, or uint16 where the maximum is above 255; scaled to the full range."""
    kind, width, height, maximum, start = _fields(data)
    if kind == 4:
        return _bits(data, width, height, start)
    dtype = np.dtype(">u2" if maximum > 255 else "u1")
    shape = (height, width, 3 if kind == 6 else 1)
    count = shape[0] * shape[1] * shape[2]
    if start + count * dtype.itemsize > len(data):
        raise truncated("the file ends before its pixels do")
    stored = np.frombuffer(data, dtype, count, start).reshape(shape)
    full = 65535 if maximum > 255 else 255
    native = np.uint16 if maximum > 255 else np.uint8
    if maximum == full:
        return stored.astype(native)
    table = np.minimum(np.rint(np.arange(full + 1) * (full / maximum)), full).astype(native)
    return np.asarray(table[stored])


def _bits(data: bytes, width: int, height: int, start: int) -> NDArray[np.unsignedinteger[Any]]:
    row = (width + 7) // 8
    if start + row * height > len(data):
        raise truncated("the file ends before its pixels do")
    packed = np.frombuffer(data, np.uint8, row * height, start).reshape(height, row)
    black = np.unpackbits(packed, axis=1)[:, :width, None]
    return np.where(black, np.uint8(0), np.uint8(255))


def _fields(data: bytes) -> tuple[int, int, int, int, int]:
    """Kind, width, height, maximum and where the samples start."""
    if data[1:2] in (b"1", b"2", b"3", b"7"):
        raise ImageError("format_not_allowed", "plain-text PNM and PAM are not opened; write binary PGM or PPM")
    if data[1:2] in (b"f", b"F"):
        raise ImageError("unsupported_mode", "float pixels (PFM) are not read")
    found = _FIELDS.match(data[:65536])
    if found is None:
        raise truncated("the PNM header ends early") if len(data) < 16 else corrupt("not a PNM header")
    kind, width, height = (int(group) for group in found.groups())
    if kind == 4:
        return kind, width, height, 1, found.end() + 1
    maximum = _MAXIMUM.match(data[:65536], found.end())
    if maximum is None:
        short = len(data) - found.end() < 8
        raise truncated("the PNM header ends early") if short else corrupt("a PNM without a maximum")
    if not 0 < int(maximum[1]) <= 65535:
        raise corrupt(f"a PNM maximum of {int(maximum[1])}")
    return kind, width, height, int(maximum[1]), maximum.end()
