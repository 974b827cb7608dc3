"""Files that must be refused: not images, cut short, damaged, or declaring more pixels than anyone should decode."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from corpus.craft import SIGNATURE, chunk, page, picture, png, saved, segment, tiff
from corpus.odd import palette

Case = tuple[str, str, Callable[[], bytes]]


def hostile() -> list[Case]:
    """(name, error code, builder)."""
    return [*_foreign(), *_cut(), *_damaged(), *_oversized(), *_slow()]


def _foreign() -> Iterator[Case]:
    yield "zero-bytes.jpg", "empty", bytes
    yield "one-byte.jpg", "truncated", lambda: b"\xff"
    yield "one-letter.jpg", "not_an_image", lambda: b"x"
    yield "text.jpg", "not_an_image", lambda: b"this is not an image\n" * 50
    yield "html.jpg", "not_an_image", lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "random.jpg", "not_an_image", lambda: np.random.Generator(np.random.Philox(key=7)).bytes(5000)
    yield "svg.jpg", "format_not_allowed", lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield "eps.jpg", "format_not_allowed", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    yield "pdf.jpg", "format_not_allowed", lambda: b"%PDF-1.7\n"
    yield "ico.jpg", "format_not_allowed", lambda: saved(Image.fromarray(picture(32, 32)), "ICO")
    yield "photo.avif", "format_not_allowed", lambda: saved(picture(), "AVIF")
    yield "photo.jp2", "format_not_allowed", lambda: saved(picture(), "JPEG2000")
    yield "heif.jpg", "format_not_allowed", lambda: b"\0\0\0\x18ftypheic" + bytes(100)
    yield "radiance.hdr", "format_not_allowed", lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4)
    yield "open.exr", "format_not_allowed", lambda: b"\x76\x2f\x31\x01" + bytes(100)
    yield "plain-text.ppm", "format_not_allowed", lambda: b"P3\n1 1\n255\n0 0 0\n"
    yield "raw.dng", "format_not_allowed", lambda: tiff(page(8, 8, (8,), 1, (50706, "I", (1,))), bytes(64))


def _cut() -> Iterator[Case]:
    for name, make in (
        ("jpg", lambda: saved(picture(), "JPEG", quality=95)),
        ("png", lambda: saved(picture(), "PNG")),
        ("gif", lambda: saved(palette(), "GIF")),
        ("webp", lambda: saved(picture(), "WEBP", quality=95)),
        ("bmp", lambda: saved(picture(), "BMP")),
        ("tif", lambda: saved(picture(), "TIFF")),
        ("ppm", lambda: saved(picture(), "PPM")),
    ):
        yield f"cut-in-header.{name}", "truncated", lambda make=make, name=name: make()[: 9 if name == "ppm" else 20]
        yield f"cut-in-half.{name}", "truncated", lambda make=make: _half(make())
        if name != "tif":
            yield f"cut-by-two.{name}", "truncated", lambda make=make: make()[:-2]
    yield "cut-progressive.jpg", "truncated", lambda: _half(saved(picture(), "JPEG", quality=95, progressive=True))
    yield "cut-pixels-whole-chunks.png", "truncated", lambda: png(64, 48, 8, 2, bytes(193 * 20))
    yield "cut-interlaced-whole-chunks.png", "truncated", lambda: png(64, 48, 8, 2, bytes(193 * 20), lace=1)
    yield "cut-strip.tif", "truncated", _cut_strip


def _damaged() -> Iterator[Case]:
    yield "bad-crc.png", "corrupt", _bad_crc
    yield "bit-flip.png", "corrupt", lambda: _flipped(saved(picture(), "PNG"), -40)
    yield "bit-flip-in-stream.png", "corrupt", _flipped_stream
    yield "no-palette.png", "corrupt", lambda: png(4, 4, 8, 3, bytes(20))
    yield "zero-width.png", "corrupt", lambda: png(0, 4, 8, 2, bytes(4))
    yield "no-header.png", "corrupt", lambda: SIGNATURE + chunk(b"IDAT", zlib.compress(bytes(20))) + chunk(b"IEND", b"")
    yield "reserved-marker.jpg", "corrupt", _reserved_marker
    yield "no-tables.jpg", "corrupt", _no_tables
    yield "two-frames.jpg", "corrupt", _two_frames
    yield "zero-height.jpg", "corrupt", lambda: _sized_jpeg(64, 0)
    yield "twelve-bit.jpg", "unsupported_mode", lambda: _sized_jpeg(64, 48, bits=12)
    yield "no-image.gif", "corrupt", lambda: saved(palette(), "GIF")[:13].replace(b"\x84", b"\0") + b";"
    yield "bit-flip.webp", "corrupt", lambda: _flipped(saved(picture(), "WEBP", lossless=True), 20)
    yield (
        "huge-tiles.tif",
        "corrupt",
        lambda: tiff(page(4, 4, (8,), 1, (322, "I", (32768,)), (323, "I", (32768,))), bytes(16)),
    )
    yield "run-length.bmp", "format_not_allowed", lambda: _sized_bmp(4, 4, compression=1)
    yield "far-directory.tif", "truncated", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(50)


def _oversized() -> Iterator[Case]:
    yield "178-megapixels.png", "too_many_pixels", _black
    yield "largest.png", "too_many_pixels", lambda: png(65535, 65535, 8, 6, bytes(100))
    yield "beyond.png", "too_many_pixels", lambda: png(2**31 - 1, 2**31 - 1, 1, 0, bytes(100))
    yield "largest.jpg", "too_many_pixels", lambda: _sized_jpeg(65535, 65535)
    yield "largest.gif", "too_many_pixels", lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";"
    yield "large-frame.gif", "too_many_pixels", _large_frame
    yield "largest.bmp", "too_many_pixels", lambda: _sized_bmp(65535, 65535)
    yield "largest.tif", "too_many_pixels", lambda: tiff(page(65535, 65535, (8, 8, 8), 2), bytes(100))
    yield "largest-deflate.tif", "too_many_pixels", _deflated_tiff
    yield "largest.webp", "too_many_pixels", _large_webp
    yield "largest-extended.webp", "too_many_pixels", _extended_webp
    yield "largest.ppm", "too_many_pixels", lambda: b"P6 65535 65535 255\n" + bytes(100)


def _slow() -> Iterator[Case]:
    yield "many-scans.jpg", "corrupt", _many_scans
    yield "many-segments.jpg", "corrupt", lambda: b"\xff\xd8" + segment(0xFE, b"") * 50_000 + b"\xff\xd9"
    yield "many-strips.tif", "corrupt", _many_strips
    yield "tiny-pieces.gif", "corrupt", lambda: saved(palette(), "GIF")[:-2] + b"\x01a" * 1_100_000 + b"\0;"
    yield "many-chunks.webp", "corrupt", _many_chunks


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0x10
    return bytes(changed)


def _cut_strip() -> bytes:
    """A strip that is shorter than its rows."""
    return tiff(page(1000, 1000, (8,), 1), bytes(100))


def _bad_crc() -> bytes:
    whole = bytearray(saved(picture(), "PNG"))
    whole[29] ^= 0xFF
    return bytes(whole)


def _flipped_stream() -> bytes:
    """Damage inside the compressed pixels under a checksum that fits it."""
    stream = _flipped(zlib.compress(np.random.Generator(np.random.Philox(key=1)).bytes(193 * 48)), 0)
    header = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def _reserved_marker() -> bytes:
    whole = saved(picture(), "JPEG", quality=95)
    return whole[:-100] + b"\xff\x37" + whole[-98:]


def _no_tables() -> bytes:
    whole = saved(picture(), "JPEG", quality=95)
    start = whole.index(b"\xff\xdb")
    end = whole.index(b"\xff\xc0")
    return whole[:start] + whole[end:]


def _two_frames() -> bytes:
    whole = saved(picture(), "JPEG", quality=95)
    start = whole.index(b"\xff\xc0")
    return whole[:start] + whole[start : start + 19] + whole[start:]


def _sized_jpeg(width: int, height: int, *, bits: int = 8) -> bytes:
    whole = bytearray(saved(picture(), "JPEG", quality=95))
    struct.pack_into(">BHH", whole, whole.index(b"\xff\xc0") + 4, bits, height, width)
    return bytes(whole)


def _sized_bmp(width: int, height: int, *, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024 + 200)


def _black() -> bytes:
    """13,350 x 13,350 black pixels of one bit: about 22 kB."""
    side = 13_350
    packer, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8)
    stream = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def _large_frame() -> bytes:
    """A small screen with one frame that reaches far beyond it."""
    frame = b"," + struct.pack("<4HB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + bytes(6) + frame + b";"


def _deflated_tiff() -> bytes:
    tags = [(259, "H", (8,)) if tag[0] == 259 else tag for tag in page(65535, 65535, (8,), 1)]
    return tiff(tags, zlib.compress(bytes(1000)))


def _large_webp() -> bytes:
    whole = bytearray(saved(picture(), "WEBP", lossless=True))
    packed = struct.unpack_from("<I", whole, 21)[0] | 0xFFFFFFF
    struct.pack_into("<I", whole, 21, packed)
    return bytes(whole)


def _extended_webp() -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\xff" * 2
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _many_scans() -> bytes:
    """A progressive JPEG that repeats its last scan 2,000 times: each costs a pass over the whole image."""
    whole = saved(picture(), "JPEG", quality=95, progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * 2000 + b"\xff\xd9"


def _many_chunks() -> bytes:
    body = saved(picture(), "WEBP", lossless=True)[8:] + b"JUNK\0\0\0\0" * 150_000
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _many_strips() -> bytes:
    """More strips than any image has rows."""
    return tiff([tag for tag in page(10, 10, (8,), 1) if tag[0] != 278] + [(273, "I", (1,) * 200_000)], bytes(100))
