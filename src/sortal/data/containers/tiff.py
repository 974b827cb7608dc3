"""TIFF: directories of tags. Classic and big, both byte orders; also read where EXIF stores an orientation.

Only the first page is decoded, from a new directory that holds the tags which pixels need and nothing else. Float,
signed and 32-bit samples are refused, and so are camera raw files, whose first page is a thumbnail.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader, corrupt, truncated

_MOST_ENTRIES = 4096
_MOST_STRIPS = 100_000
_MOST_PAGES = 1000
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_ORIENTATION, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 274, 273, 279, 324, 325
# width, height, compression, photometric, fill order, samples, rows, fax options, planar, predictor, tile size
_SINGLE = (256, 257, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323)
# bits, offsets, byte counts, color map, extra samples, sample format, JPEG tables, YCbCr subsampling and reference
_MULTIPLE = (258, 273, 279, 320, 324, 325, 338, 339, 347, 530, 532)
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000}
_PHOTOMETRIC = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK", 6: "YCbCr"}


@dataclass(frozen=True, kw_only=True)
class Directory:
    """One directory of a TIFF: tag to (type, count, position of its values)."""

    data: bytes
    order: str
    big: bool
    entries: dict[int, tuple[int, int, int]]
    following: int

    def values(self, tag: int) -> tuple[int, ...]:
        """All integers of a tag, () where it is absent; raises ImageError where they lie outside the file."""
        if tag not in self.entries:
            return ()
        kind, count, start = self.entries[tag]
        if kind not in _INTEGERS or count > _MOST_STRIPS:
            raise corrupt(f"TIFF tag {tag} does not hold what it should")
        if start + count * _SIZES[kind] > len(self.data):
            raise truncated(f"TIFF tag {tag} lies behind the end of the file")
        return struct.unpack_from(f"{self.order}{count}{_INTEGERS[kind]}", self.data, start)

    def value(self, tag: int, default: int) -> int:
        """The first integer of a tag."""
        found = self.values(tag)
        return found[0] if found else default


def header(data: bytes) -> ImageHeader:
    """Size, mode and orientation of the first page."""
    page = first_directory(data)
    width, height = page.value(256, 0), page.value(257, 0)
    bits = page.values(258) or (1,)
    mode = _PHOTOMETRIC.get(page.value(262, 0), "?")
    if mode in ("L", "RGB") and len(page.values(338)):
        mode += "A"
    if max(bits) == 1 and mode == "L":
        mode = "1"
    if max(bits) == 16:
        mode = "I;16" if mode == "L" else mode + ";16"
    if page.value(339, 1) != 1 or max(bits) > 16:
        mode = "F" if page.value(339, 1) == 3 else "I"
    return ImageHeader(
        format="TIFF", width=width, height=height, mode=mode, frames=_pages(page), orientation=_upright(page)
    )


def strip(data: bytes) -> bytes:
    """The same file with a new first directory at its end; raises ImageError for what cannot be decoded rightly."""
    page = first_directory(data)
    _check_kind(page)
    _check_samples(page)
    _check_extent(page)
    return _rewritten(page)


def inverted(data: bytes) -> bool:
    """Whether 16-bit grey counts from white (0) to black, which Pillow does not undo."""
    page = first_directory(data)
    return page.value(262, 0) == 0 and page.value(258, 1) == 16


def exif_orientation(exif: bytes) -> int:
    """The orientation 1..8 in an EXIF block; 1 where the block is damaged or says nothing."""
    try:
        return _upright(first_directory(exif.removeprefix(b"Exif\0\0")))
    except (ImageError, struct.error):
        return 1


def first_directory(data: bytes) -> Directory:
    """The directory that the file header points to."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise truncated("the TIFF header ends early")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    if big and len(data) < 16:
        raise truncated("the TIFF header ends early")
    offset = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    return _directory(data, order, big, offset)


def _directory(data: bytes, order: str, big: bool, offset: int) -> Directory:  # noqa: FBT001
    counter, entry, link = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    inline = struct.calcsize("=" + link)
    start = offset + struct.calcsize("=" + counter)
    if start > len(data):
        raise truncated("the TIFF directory lies behind the end of the file")
    count = struct.unpack_from(order + counter, data, offset)[0]
    size = struct.calcsize("=" + entry) + inline
    if count > _MOST_ENTRIES:
        raise corrupt(f"a TIFF directory of {count} entries")
    if start + count * size > len(data):
        raise truncated("the TIFF directory ends early")
    entries: dict[int, tuple[int, int, int]] = {}
    for position in range(start, start + count * size, size):
        tag, kind, number = struct.unpack_from(order + entry, data, position)
        place = position + size - inline
        if number * _SIZES.get(kind, 1) > inline:
            place = struct.unpack_from(order + link, data, place)[0]
        entries.setdefault(tag, (kind, number, place))
    end = start + count * size
    following = struct.unpack_from(order + link, data, end)[0] if end + inline <= len(data) else 0
    return Directory(data=data, order=order, big=big, entries=entries, following=following)


def _upright(page: Directory) -> int:
    found = page.value(_ORIENTATION, 1)
    return found if 1 <= found <= 8 else 1


def _pages(page: Directory) -> int:
    """How many directories are linked, up to 1,000; links in a circle or out of the file end the count."""
    seen: set[int] = set()
    counter, entry, link = ("Q", 20, "Q") if page.big else ("H", 12, "I")
    offset = page.following
    while offset and offset not in seen and len(seen) < _MOST_PAGES:
        seen.add(offset)
        try:
            count = struct.unpack_from(page.order + counter, page.data, offset)[0]
            end = offset + struct.calcsize("=" + counter) + count * entry
            offset = struct.unpack_from(page.order + link, page.data, end)[0]
        except (struct.error, OverflowError):
            break
    return len(seen) + 1


def _check_kind(page: Directory) -> None:
    compression = page.value(259, 1)
    if compression not in _COMPRESSIONS:
        raise ImageError("format_not_allowed", f"TIFF compression {compression} is not opened")
    if 50706 in page.entries or (330 in page.entries and page.value(254, 0) & 1):
        raise ImageError("format_not_allowed", "a camera raw file is not opened; develop it to TIFF, PNG or JPEG")


def _check_samples(page: Directory) -> None:
    bits, kinds, photometric = page.values(258) or (1,), set(page.values(339) or (1,)), page.value(262, 0)
    if kinds != {1}:
        raise ImageError("unsupported_mode", "only unsigned integer samples are read, not signed or float ones")
    if len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16) or photometric not in _PHOTOMETRIC:
        raise ImageError("unsupported_mode", f"TIFF pixels of {bits[0]} bits, photometric {photometric}")
    odd = photometric not in (0, 1, 2) or page.value(284, 1) == 2 or 1 in page.values(338)
    if bits[0] == 16 and odd:
        raise ImageError("unsupported_mode", "16-bit TIFF is read as grey, RGB or RGBA in one plane only")


def _check_extent(page: Directory) -> None:
    """Every strip or tile must lie in the file, and a tile must not be far larger than the image."""
    width, height = page.value(256, 0), page.value(257, 0)
    if page.value(322, 0) > width + 4096 or page.value(323, 0) > height + 4096:
        raise corrupt("TIFF tiles are larger than the image")
    offsets = page.values(_STRIPS) or page.values(_TILES)
    sizes = page.values(_STRIP_BYTES) or page.values(_TILE_BYTES)
    if not offsets or (sizes and len(sizes) != len(offsets)):
        raise corrupt("a TIFF without a place for its pixels")
    ends = [start + size for start, size in zip(offsets, sizes, strict=True)] if sizes else offsets
    if max(ends) > len(page.data):
        raise truncated("the TIFF file ends before its pixels do")


def _rewritten(page: Directory) -> bytes:
    entry, link, counter = ("HHQ", "Q", "Q") if page.big else ("HHI", "I", "H")
    rows = []
    for tag in sorted(page.entries.keys() & {*_SINGLE, *_MULTIPLE}):
        kind, count, place = page.entries[tag]
        if tag in _SINGLE:
            wide = struct.pack(page.order + entry + "I", tag, 4, 1, page.value(tag, 0))
            rows.append(wide + bytes(4 if page.big else 0))
            continue
        size = count * _SIZES.get(kind, 1)
        if place + size > len(page.data):
            raise truncated(f"TIFF tag {tag} lies behind the end of the file")
        inline = struct.calcsize("=" + link)
        held = page.data[place : place + inline] if size <= inline else struct.pack(page.order + link, place)
        rows.append(struct.pack(page.order + entry, tag, kind, count) + held.ljust(inline, b"\0"))
    padding = len(page.data) % 2
    offset = struct.pack(page.order + link, len(page.data) + padding)
    start = page.data[:8] + offset if page.big else page.data[:4] + offset
    directory = struct.pack(page.order + counter, len(rows)) + b"".join(rows) + bytes(len(offset))
    return b"".join([start, memoryview(page.data)[len(start) :], bytes(padding), directory])
