"""What EXIF says about the origin of an image: camera, time, and whether it tells where or whose.

A reader of its own, bounded in every direction and never raising: hostile EXIF is merely EXIF that says nothing. The
orientation is a matter of `data.header`. Tags after Exif 3.0 (CIPA DC-008).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

_MOST_ENTRIES = 512
_MOST_SEGMENTS = 1000
_MOST_TEXT_BYTES = 128
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MAKE, _MODEL, _TIME, _ARTIST, _AUTHOR = 0x010F, 0x0110, 0x0132, 0x013B, 0x9C9D
_CAPTURE, _POSITION = 0x8769, 0x8825
_TAKEN, _DIGITIZED, _FRACTION, _OWNER, _BODY, _LENS = 0x9003, 0x9004, 0x9291, 0xA430, 0xA431, 0xA435
_LATITUDE, _LONGITUDE = 0x0002, 0x0004
_WHEN = re.compile(r"([0-9]{4})[:\-/]([0-9]{2})[:\-/]([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})")
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_POSITION = b"exif:GPSLatitude"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What an image file says about where it comes from."""

    camera: str | None = None
    """Make and model."""
    taken: datetime | None = None
    """Local time of the camera, without a zone."""
    gps: bool = False
    """Whether there is a position."""
    personal: bool = False
    """Whether an artist, an owner or a serial number of camera or lens is named."""


NOWHERE = Origin()


def read_origin(data: bytes, format: str) -> Origin:
    """The origin in the bytes of an image file of that format (as `ImageHeader.format` names it)."""
    try:
        block, mapped = _blocks(data, format)
        found = _origin(block) if block else NOWHERE
    except (struct.error, ValueError, IndexError, OverflowError):
        return NOWHERE
    if mapped and not found.gps:
        return Origin(camera=found.camera, taken=found.taken, gps=True, personal=found.personal)
    return found


def _blocks(data: bytes, format: str) -> tuple[bytes, bool]:
    """The EXIF block (a TIFF of tags), and whether XMP tells a position."""
    if format == "JPEG":
        return _from_jpeg(data)
    if format == "TIFF":
        return data, False
    chunks = {"PNG": _png_chunks, "WEBP": _webp_chunks}.get(format)
    wanted = {b"eXIf", b"EXIF"}
    block = b"" if chunks is None else next((part for kind, part in chunks(data) if kind in wanted), b"")
    return block.removeprefix(b"Exif\0\0"), False


def _from_jpeg(data: bytes) -> tuple[bytes, bool]:
    block, mapped = b"", False
    for content in _application_segments(data):
        if not block and content.startswith(b"Exif\0\0"):
            block = content[6:]
        elif content.startswith(_XMP):
            mapped |= _XMP_POSITION in content
    return block, mapped


def _application_segments(data: bytes) -> Iterator[bytes]:
    """The contents of the APP1 segments before the first scan."""
    position = 2
    for _ in range(_MOST_SEGMENTS):
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if data[position : position + 1] != b"\xff" or data[position + 1] in (0xD9, 0xDA):
            return
        length = struct.unpack_from(">H", data, position + 2)[0]
        if data[position + 1] == 0xE1:
            yield data[position + 4 : position + 2 + length]
        position += 2 + max(2, length)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    for _ in range(_MOST_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            return
        yield kind, data[position + 8 : position + 8 + length] if kind == b"eXIf" else b""
        position += 12 + length


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    for _ in range(_MOST_SEGMENTS):
        if position + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, data[position + 8 : position + 8 + length] if kind == b"EXIF" else b""
        position += 8 + length + length % 2


@dataclass(frozen=True, kw_only=True)
class _Tags:
    """The entries of one directory: tag to (type, count, position of its values)."""

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]

    def text(self, tag: int) -> str | None:
        kind, count, place = self.entries.get(tag, (0, 0, 0))
        if kind not in (1, 2, 7):
            return None
        raw = self.data[place : place + min(count, _MOST_TEXT_BYTES)]
        found = raw.replace(b"\0", b" ").decode("utf-8", "replace")
        shown = "".join(char if char.isprintable() else " " for char in found)
        return " ".join(shown.split()) or None

    def number(self, tag: int) -> int | None:
        kind, count, place = self.entries.get(tag, (0, 0, 0))
        if kind not in (4, 13) or count != 1:
            return None
        return int(struct.unpack_from(self.order + "I", self.data, place)[0])

    def directory(self, tag: int) -> _Tags:
        """The directory that a tag points to; an empty one where there is none."""
        start = self.number(tag)
        return _Tags(data=self.data, order=self.order, entries={}) if start is None else self.at(start)

    def at(self, start: int) -> _Tags:
        """The directory at a position; an empty one where the data ends before it does."""
        entries: dict[int, tuple[int, int, int]] = {}
        count = min(self._count(start), _MOST_ENTRIES)
        for position in range(start + 2, min(start + 2 + 12 * count, len(self.data) - 11), 12):
            tag, kind, number = struct.unpack_from(self.order + "HHI", self.data, position)
            place = position + 8
            if number * _SIZES.get(kind, 1) > 4:
                place = struct.unpack_from(self.order + "I", self.data, place)[0]
            entries.setdefault(tag, (kind, number, place))
        return _Tags(data=self.data, order=self.order, entries=entries)

    def _count(self, start: int) -> int:
        return int(struct.unpack_from(self.order + "H", self.data, start)[0]) if start + 2 <= len(self.data) else 0


def _origin(block: bytes) -> Origin:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return NOWHERE
    head = _Tags(data=block, order=order, entries={})
    main = head.at(int(struct.unpack_from(order + "I", block, 4)[0]))
    capture, position = main.directory(_CAPTURE), main.directory(_POSITION)
    named = [main.text(tag) for tag in (_ARTIST, _AUTHOR)]
    named += [capture.text(tag) for tag in (_OWNER, _BODY, _LENS)]
    return Origin(
        camera=_camera(main.text(_MAKE), main.text(_MODEL)),
        taken=_when(capture.text(_TAKEN) or capture.text(_DIGITIZED) or main.text(_TIME), capture.text(_FRACTION)),
        gps=_LATITUDE in position.entries and _LONGITUDE in position.entries,
        personal=any(text is not None and text.strip("0 ") for text in named),
    )


def _camera(make: str | None, model: str | None) -> str | None:
    if make is None or model is None:
        return model or make
    return model if model.casefold().startswith(make.casefold()) else f"{make} {model}"


def _when(text: str | None, fraction: str | None) -> datetime | None:
    found = _WHEN.match(text or "")
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    digits = fraction if fraction and fraction.isascii() and fraction.isdigit() else "0"
    try:
        return datetime(year, month, day, hour, minute, second, int(digits[:6].ljust(6, "0")))
    except ValueError:
        return None
