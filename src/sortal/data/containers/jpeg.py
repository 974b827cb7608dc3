"""JPEG: marker segments around scans of coded coefficients.

Kept for the decoder: frame, tables, scans, JFIF and Adobe segments (they decide the color space). EXIF, ICC, comments,
thumbnails and whatever follows the end marker are dropped. Damage that only the entropy decoder could notice is
patched over by libjpeg without a word; that much of it cannot be reported here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader, corrupt, truncated
from sortal.data.containers.tiff import exif_orientation

_MOST_SEGMENTS = 20_000
_MOST_SCANS = 100
_MOST_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans: libjpeg passes over the whole image for each scan of a progressive file, even an empty one."""
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
_SCAN, _END, _EXIF, _JFIF, _ADOBE = 0xDA, 0xD9, 0xE1, 0xE0, 0xEE
_CODED = -1
"""No marker: the coefficients behind the header of a scan."""
_ALONE = {0x01, 0xD8, *range(0xD0, 0xD8)}
_SKIPPED = {*range(0xE0, 0xF0), 0xFE, 0xDC}
_KNOWN = _FRAMES | _TABLES | _SKIPPED | {_SCAN}
_MARKER_IN_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""No repetition: sre searches for this 20 times as fast as for one with `\xff+`, and a scan may keep fill bytes."""


def header(data: bytes) -> ImageHeader:
    """Size, components and EXIF orientation, from the segments before the first scan."""
    orientation = 0
    for marker, start, end in _segments(data):
        if marker == _EXIF and not orientation and data[start : start + 6] == b"Exif\0\0":
            orientation = exif_orientation(data[start:end])
        if marker in _FRAMES:
            return _frame(data[start:end], orientation or _later_orientation(data))
        if marker in (_SCAN, _END):
            break
    raise truncated("the JPEG ends before it says how large it is")


def strip(data: bytes) -> bytes:
    """Only the segments that pixels need; raises ImageError where the end marker or a segment is missing."""
    parts: list[bytes] = [b"\xff\xd8"]
    scans = frames = pixels = 0
    for marker, start, end in _segments(data):
        if marker == _END:
            break
        if marker == _CODED:
            parts.append(data[start:end])
            continue
        if marker in _FRAMES:
            frames += 1
            size = _frame(data[start:end], 1)
            pixels = size.width * size.height
        scans += marker == _SCAN
        if scans > _MOST_SCANS or scans * pixels > _MOST_SCANNED_PIXELS:
            raise corrupt(f"a JPEG of {scans} or more scans")
        if _kept(marker, data[start : start + 5]):
            parts.append(struct.pack(">BBH", 0xFF, marker, end - start + 2))
            parts.append(data[start:end])
    else:
        raise truncated("the JPEG has no end marker")
    if frames != 1 or not scans:
        raise corrupt(f"a JPEG of {frames} frames and {scans} scans")
    parts.append(b"\xff\xd9")
    return b"".join(parts)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of every segment's content up to the end marker. The content of a scan is its header; what
    it codes comes next as `_CODED`, and is looked for only where somebody goes on to it."""
    position, count = 2, 0
    while (position := data.find(b"\xff", position)) >= 0:
        count += 1
        if count > _MOST_SEGMENTS:
            raise corrupt(f"a JPEG of more than {_MOST_SEGMENTS} segments")
        while position < len(data) and data[position] == 0xFF:
            position += 1
        if position >= len(data):
            return
        marker = data[position]
        position += 1
        if marker == _END:
            yield marker, position, position
            return
        if marker in _ALONE or marker == 0:
            continue
        if marker not in _KNOWN:
            raise corrupt(f"unexpected JPEG marker FF{marker:02X}")
        if position + 2 > len(data):
            raise truncated("the JPEG ends inside a segment")
        end = position + struct.unpack_from(">H", data, position)[0]
        if end < position + 2:
            raise corrupt("a JPEG segment of negative length")
        if end > len(data):
            raise truncated("the JPEG ends inside a segment")
        yield marker, position + 2, end
        position = end
        if marker == _SCAN:
            position = _scan_end(data, end)
            yield _CODED, end, position


def _scan_end(data: bytes, start: int) -> int:
    found = _MARKER_IN_SCAN.search(data, start)
    if found is None:
        raise truncated("the JPEG ends inside its pixels")
    return found.start()


def _kept(marker: int, start: bytes) -> bool:
    if marker == _JFIF:
        return start[:4] == b"JFIF"
    if marker == _ADOBE:
        return start == b"Adobe"
    return marker in _FRAMES or marker in _TABLES or marker == _SCAN


def _frame(content: bytes, orientation: int) -> ImageHeader:
    if len(content) < 6:
        raise corrupt("a JPEG frame header that is too short")
    precision, height, width, components = struct.unpack_from(">BHHB", content)
    if precision != 8 or components not in (1, 3, 4):
        raise ImageError("unsupported_mode", f"a JPEG of {components} components of {precision} bits")
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[components]
    return ImageHeader(format="JPEG", width=width, height=height, mode=mode, orientation=orientation)


def _later_orientation(data: bytes) -> int:
    """EXIF that stands between the frame header and the first scan, which some writers produce."""
    try:
        for marker, start, end in _segments(data):
            if marker == _SCAN:
                break
            if marker == _EXIF and data[start : start + 6] == b"Exif\0\0":
                return exif_orientation(data[start:end])
    except ImageError:
        pass
    return 1
