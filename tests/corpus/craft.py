"""Building blocks: a test picture, PNG chunks, TIFF directories, EXIF blocks, JPEG segments."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smooth RGB gradients with a bright corner, so that each of the eight orientations looks different."""
    down, across = np.mgrid[0:height, 0:width]
    red = across * 255 / max(1, width - 1)
    green = down * 255 / max(1, height - 1)
    blue = np.where((down < height / 3) & (across < width / 3), 220, 40)
    return np.stack([red, green, blue], axis=2).round().astype(np.uint8)


def saved(image: Image.Image | np.ndarray, format: str, **options: Any) -> bytes:
    """An image in a format, by Pillow."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, format, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, color: int, rows: bytes, *, between: bytes = b"", lace: int = 0) -> bytes:
    """A PNG of given filtered rows (each begins with its filter byte); `between` stands before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, lace)
    return SIGNATURE + chunk(b"IHDR", header) + between + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def unfiltered(samples: np.ndarray) -> bytes:
    """Rows of a PNG without filters: (height, width, channels) uint8 or uint16."""
    big = samples.astype(samples.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in big)


def laced(samples: np.ndarray) -> bytes:
    """Rows of a PNG in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [samples[top::down, left::across] for top, left, down, across in passes]
    return b"".join(unfiltered(part) for part in parts if part.size)


def zeros(size: int) -> bytes:
    """A zlib stream that inflates to `size` zero bytes, made without holding them."""
    packer, block = zlib.compressobj(9), bytes(2**20)
    parts = [packer.compress(block[: min(len(block), size - done)]) for done in range(0, size, len(block))]
    return b"".join(parts) + packer.flush()


def exif(orientation: int, *, order: str = ">") -> bytes:
    """An EXIF block that holds an orientation and nothing else."""
    mark = b"MM\0*\0\0\0\x08" if order == ">" else b"II*\0\x08\0\0\0"
    return b"Exif\0\0" + mark + struct.pack(order + "HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def after_start(jpeg: bytes, inserted: bytes) -> bytes:
    """A JPEG with more segments right behind its start marker."""
    return jpeg[:2] + inserted + jpeg[2:]


def tiff(
    tags: Iterable[tuple[int, str, tuple[int, ...]]], pixels: bytes, *, order: str = "<", big: bool = False
) -> bytes:
    """A TIFF of one page in one strip at byte 16; its place and size are added to `tags` of (tag, H or I, values)."""
    inline, link = (8, "Q") if big else (4, "I")
    every = sorted([*tags, (273, "I", (16,)), (279, "I", (len(pixels),))])
    pixels += bytes(len(pixels) % 2)
    start = 16 + len(pixels)
    entries, outside = [], b""
    size = (8 + 20 * len(every) + 8) if big else (2 + 12 * len(every) + 4)
    for tag, kind, values in every:
        held = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(held) > inline:
            place = start + size + len(outside)
            outside += held + bytes(len(held) % 2)
            held = struct.pack(order + link, place)
        entries.append(
            struct.pack(order + "HH" + link, tag, {"H": 3, "I": 4}[kind], len(values)) + held.ljust(inline, b"\0")
        )
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(order + "HHHQ", 43, 8, 0, start) if big else struct.pack(order + "HI", 42, start)
    count = struct.pack(order + ("Q" if big else "H"), len(every))
    return (mark + first).ljust(16, b"\0") + pixels + count + b"".join(entries) + bytes(inline) + outside


def page(
    width: int, height: int, bits: tuple[int, ...], photometric: int, *more: tuple[int, str, tuple[int, ...]]
) -> list:
    """The tags of an uncompressed page."""
    return [
        (256, "I", (width,)),
        (257, "I", (height,)),
        (258, "H", bits),
        (259, "H", (1,)),
        (262, "H", (photometric,)),
        (277, "H", (len(bits),)),
        (278, "I", (height,)),
        *more,
    ]
