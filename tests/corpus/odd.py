"""Files that are unusual but whole: every one must become pixels, or be refused for what its samples are."""

from __future__ import annotations

import base64
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from corpus.craft import (
    HEIGHT,
    WIDTH,
    after_start,
    chunk,
    exif,
    laced,
    page,
    picture,
    png,
    saved,
    segment,
    tiff,
    unfiltered,
    zeros,
)

WHOLE = f"{HEIGHT}x{WIDTH}"
Case = tuple[str, str, Callable[[], bytes]]

ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1x"
    "eXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/yQAR"
    "CAAwAEADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AHh6OjVdR44Z82XYylg8Y79YRnH2/Q/KB9To9ILwE1OhADK7ZJew"
    "gzR0Op+vazwY16+TXrDxfuakscSqWSuiEY71CiF/jXnXdEfL0u6k6mpoDGDrUEnXUlZuEbR6OwbFRJu5ZWp+sgWH9ajjdE8leXbF2T1E5KZW"
    "+c/R/9k="
)
"""`picture()` at quality 50 as a JPEG with arithmetic coding, which Pillow reads and cannot write."""


def odd() -> list[Case]:
    """(name, verdict, builder); a verdict is HEIGHTxWIDTH of the upright pixels or an error code."""
    return [*_jpeg(), *_png(), *_wide_png(), *_animated(), *_bitmap(), *_tiff(), *_tiff_kinds(), *_netpbm()]


def ramp16(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A 16-bit ramp over the full range, (height, width, 1)."""
    return np.linspace(0, 65535, height * width).round().astype(np.uint16).reshape(height, width, 1)


def color16() -> np.ndarray:
    """16-bit RGB whose low bytes matter."""
    ramp = ramp16()
    return np.concatenate([ramp, 65535 - ramp, (ramp // 3 + 77).astype(np.uint16)], axis=2)


def palette() -> Image.Image:
    """The picture in 32 colors."""
    return Image.fromarray(picture()).quantize(32, dither=Image.Dither.NONE)


def cmyk() -> Image.Image:
    """The picture in CMYK."""
    return Image.fromarray(picture()).convert("CMYK")


def alpha() -> np.ndarray:
    """Alpha that grows from the left."""
    return np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))[:, :, None]


def _photo(**options: object) -> bytes:
    return saved(picture(), "JPEG", quality=95, **options)


def _grey() -> np.ndarray:
    return picture()[:, :, 0]


def _jpeg() -> Iterator[Case]:
    yield "plain.jpg", WHOLE, _photo
    yield "progressive.jpg", WHOLE, lambda: _photo(progressive=True)
    yield "restart-markers.jpg", WHOLE, lambda: _photo(restart_marker_blocks=2)
    yield "arithmetic.jpg", WHOLE, lambda: base64.b64decode(ARITHMETIC)
    yield "grey.jpg", WHOLE, lambda: saved(_grey(), "JPEG", quality=95)
    yield "cmyk.jpg", WHOLE, lambda: saved(cmyk(), "JPEG", quality=95)
    for value in range(1, 9):
        size = f"{WIDTH}x{HEIGHT}" if value >= 5 else WHOLE
        yield f"exif-{value}.jpg", size, lambda value=value: after_start(_photo(), segment(0xE1, exif(value)))
    yield "exif-little-endian.jpg", f"{WIDTH}x{HEIGHT}", lambda: _photo(exif=exif(6, order="<"))
    yield "exif-99.jpg", WHOLE, lambda: after_start(_photo(), segment(0xE1, exif(99)))
    yield "exif-garbage.jpg", WHOLE, lambda: after_start(_photo(), segment(0xE1, b"Exif\0\0MM\0*" + b"\xff" * 300))
    yield "trailing-garbage.jpg", WHOLE, lambda: _photo() + bytes(range(256)) * 20
    yield "zip-behind.jpg", WHOLE, lambda: _photo() + _archive()
    yield (
        "broken-icc.jpg",
        WHOLE,
        lambda: after_start(_photo(), segment(0xE2, b"ICC_PROFILE\0\x01\x05" + b"\xaa" * 500)),
    )
    yield "fill-bytes.jpg", WHOLE, lambda: after_start(_photo(), b"\xff" * 50)
    yield "many-comments.jpg", WHOLE, lambda: after_start(_photo(), segment(0xFE, b"x") * 5000)
    yield "jpeg-named.png", WHOLE, _photo
    yield "one-pixel.jpg", "1x1", lambda: saved(picture(1, 1), "JPEG")
    yield "one-row.jpg", "1x20000", lambda: saved(picture(1, 20000), "JPEG")
    yield "line\nbreak.jpg", WHOLE, _photo


def _png() -> Iterator[Case]:
    rgba = np.concatenate([picture(), alpha()], axis=2)
    yield "plain.png", WHOLE, lambda: saved(picture(), "PNG")
    yield "png-named.jpg", WHOLE, lambda: saved(picture(), "PNG")
    yield "grey.png", WHOLE, lambda: saved(_grey(), "PNG")
    yield "one-bit.png", WHOLE, lambda: saved(Image.fromarray(picture()).convert("1"), "PNG")
    yield "palette.png", WHOLE, lambda: saved(palette(), "PNG")
    yield "palette-trns.png", WHOLE, lambda: saved(palette(), "PNG", transparency=bytes(range(0, 256, 8)))
    yield "palette-trns-one.png", WHOLE, lambda: saved(palette(), "PNG", transparency=3)
    yield "grey-trns.png", WHOLE, lambda: saved(_grey(), "PNG", transparency=0)
    yield "two-bit-trns.png", WHOLE, _two_bit
    yield "rgb-trns.png", WHOLE, lambda: saved(picture(), "PNG", transparency=(0, 0, 220))
    yield "grey-alpha.png", WHOLE, lambda: saved(Image.fromarray(np.dstack([_grey(), alpha()]), "LA"), "PNG")
    yield "rgba.png", WHOLE, lambda: saved(rgba, "PNG")
    yield "interlaced.png", WHOLE, lambda: png(WIDTH, HEIGHT, 8, 2, laced(picture()), lace=1)
    yield "exif-6.png", f"{WIDTH}x{HEIGHT}", lambda: saved(picture(), "PNG", exif=exif(6))
    yield "broken-icc.png", WHOLE, lambda: _with(chunk(b"iCCP", b"x\0\0" + b"not zlib"))
    yield "bad-crc-in-text.png", WHOLE, lambda: _with(chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0")
    yield "ten-thousand-chunks.png", WHOLE, lambda: _with(chunk(b"teSt", b"") * 10_000)
    yield (
        "text-bomb.png",
        "4x4",
        lambda: png(4, 4, 8, 0, bytes(20), between=chunk(b"zTXt", b"k\0\0" + zeros(100 * 2**20))),
    )
    yield "pixel-bomb.png", "4x4", _pixel_bomb
    yield "one-column.png", "20000x1", lambda: saved(picture(20000, 1), "PNG")
    yield "trailing-garbage.png", WHOLE, lambda: saved(picture(), "PNG") + b"\0" * 999


def _wide_png() -> Iterator[Case]:
    wide_alpha = alpha().astype(np.uint16) * np.uint16(257)
    yield "grey-16.png", WHOLE, lambda: png(WIDTH, HEIGHT, 16, 0, unfiltered(ramp16()))
    yield "grey-16-trns.png", WHOLE, _keyed16
    yield "rgb-16.png", WHOLE, lambda: png(WIDTH, HEIGHT, 16, 2, unfiltered(color16()))
    yield "rgb-16-interlaced.png", WHOLE, lambda: png(WIDTH, HEIGHT, 16, 2, laced(color16()), lace=1)
    yield "grey-alpha-16.png", WHOLE, lambda: png(WIDTH, HEIGHT, 16, 4, unfiltered(np.dstack([ramp16(), wide_alpha])))
    yield "rgba-16.png", WHOLE, lambda: png(WIDTH, HEIGHT, 16, 6, unfiltered(np.dstack([color16(), wide_alpha])))


def _animated() -> Iterator[Case]:
    frames = [Image.fromarray(np.roll(picture(), 8 * step, axis=1)) for step in range(3)]
    more = {"save_all": True, "append_images": frames[1:]}
    yield "plain.gif", WHOLE, lambda: saved(palette(), "GIF")
    yield "gif-named.jpg", WHOLE, lambda: saved(palette(), "GIF")
    yield "transparent.gif", WHOLE, lambda: saved(palette(), "GIF", transparency=3)
    yield "animated.gif", WHOLE, lambda: saved(frames[0], "GIF", **more)
    yield "long-comment.gif", WHOLE, _long_comment
    yield "animated.png", WHOLE, lambda: saved(frames[0], "PNG", **more)
    yield "lossy.webp", WHOLE, lambda: saved(picture(), "WEBP", quality=95)
    yield "lossless.webp", WHOLE, lambda: saved(picture(), "WEBP", lossless=True)
    yield "alpha.webp", WHOLE, lambda: saved(np.concatenate([picture(), alpha()], axis=2), "WEBP", lossless=True)
    yield "exif-6.webp", f"{WIDTH}x{HEIGHT}", lambda: saved(picture(), "WEBP", lossless=True, exif=exif(6))
    yield "animated.webp", WHOLE, lambda: saved(frames[0], "WEBP", lossless=True, **more)


def _bitmap() -> Iterator[Case]:
    yield "plain.bmp", WHOLE, lambda: saved(picture(), "BMP")
    yield "palette.bmp", WHOLE, lambda: saved(palette(), "BMP")
    yield "bmp-named.jpg", WHOLE, lambda: saved(picture(), "BMP")
    yield "from-the-top.bmp", WHOLE, _top_down


def _tiff() -> Iterator[Case]:
    second = Image.fromarray(picture(10, 10))
    yield "plain.tif", WHOLE, lambda: saved(picture(), "TIFF")
    yield "lzw.tif", WHOLE, lambda: saved(picture(), "TIFF", compression="tiff_lzw")
    yield "deflate.tif", WHOLE, lambda: saved(picture(), "TIFF", compression="tiff_adobe_deflate")
    yield "jpeg-inside.tif", WHOLE, lambda: saved(picture(), "TIFF", compression="jpeg", quality=95)
    yield "fax.tif", WHOLE, lambda: saved(Image.fromarray(picture()).convert("1"), "TIFF", compression="group4")
    yield "pages.tif", WHOLE, lambda: saved(picture(), "TIFF", save_all=True, append_images=[second])
    yield "palette.tif", WHOLE, lambda: saved(palette(), "TIFF")
    yield "cmyk.tif", WHOLE, lambda: saved(cmyk(), "TIFF")
    yield (
        "exif-6.tif",
        f"{WIDTH}x{HEIGHT}",
        lambda: tiff(page(WIDTH, HEIGHT, (8, 8, 8), 2, (274, "H", (6,))), picture().tobytes()),
    )
    yield "pages-in-a-circle.tif", WHOLE, _circle


def _tiff_kinds() -> Iterator[Case]:
    grey, color = ramp16()[:, :, 0], color16()
    yield "grey-16.tif", WHOLE, lambda: tiff(page(WIDTH, HEIGHT, (16,), 1), grey.tobytes())
    yield (
        "grey-16-big-endian.tif",
        WHOLE,
        lambda: tiff(page(WIDTH, HEIGHT, (16,), 1), grey.astype(">u2").tobytes(), order=">"),
    )
    yield "grey-16-white-is-zero.tif", WHOLE, lambda: tiff(page(WIDTH, HEIGHT, (16,), 0), (65535 - grey).tobytes())
    yield "grey-16-deflate.tif", WHOLE, lambda: saved(Image.fromarray(grey), "TIFF", compression="tiff_adobe_deflate")
    yield "rgb-16.tif", WHOLE, lambda: tiff(page(WIDTH, HEIGHT, (16, 16, 16), 2), color.tobytes())
    yield (
        "rgb-16-big-endian.tif",
        WHOLE,
        lambda: tiff(page(WIDTH, HEIGHT, (16, 16, 16), 2), color.astype(">u2").tobytes(), order=">"),
    )
    yield (
        "rgb-16-deflate.tif",
        WHOLE,
        lambda: tiff(_deflated(page(WIDTH, HEIGHT, (16, 16, 16), 2)), zlib.compress(color.tobytes())),
    )
    yield "big.tif", WHOLE, lambda: tiff(page(WIDTH, HEIGHT, (8, 8, 8), 2), picture().tobytes(), big=True)
    yield "float.tif", "unsupported_mode", lambda: saved(Image.fromarray(np.float32(_grey())), "TIFF")
    yield "int-32.tif", "unsupported_mode", lambda: saved(Image.fromarray(np.int32(_grey())), "TIFF")
    yield (
        "signed-16.tif",
        "unsupported_mode",
        lambda: tiff(page(WIDTH, HEIGHT, (16,), 1, (339, "H", (2,))), grey.tobytes()),
    )


def _netpbm() -> Iterator[Case]:
    size = b"%d %d" % (WIDTH, HEIGHT)
    yield "plain.ppm", WHOLE, lambda: saved(picture(), "PPM")
    yield "grey.pgm", WHOLE, lambda: b"P5 # a comment\n" + size + b"\n255\n" + _grey().tobytes()
    yield "one-bit.pbm", WHOLE, lambda: saved(Image.fromarray(picture()).convert("1"), "PPM")
    yield "grey-16.pgm", WHOLE, lambda: b"P5 " + size + b" 65535\n" + ramp16().astype(">u2").tobytes()
    yield "rgb-16.ppm", WHOLE, lambda: b"P6 " + size + b" 65535\n" + color16().astype(">u2").tobytes()
    yield "grey-12.pgm", WHOLE, lambda: b"P5 " + size + b" 4095\n" + (ramp16() >> 4).astype(">u2").tobytes()
    yield "float.pfm", "unsupported_mode", lambda: b"Pf\n" + size + b"\n-1.0\n" + bytes(HEIGHT * WIDTH * 4)


def _deflated(tags: list) -> list:
    return [(259, "H", (8,)) if tag[0] == 259 else tag for tag in tags]


def _with(inserted: bytes) -> bytes:
    return png(WIDTH, HEIGHT, 8, 2, unfiltered(picture()), between=inserted)


def _two_bit() -> bytes:
    """2-bit grey 0..3 in columns, level 1 transparent."""
    row = b"\0" + bytes([0b00011011] * (WIDTH // 4))
    return png(WIDTH, HEIGHT, 2, 0, row * HEIGHT, between=chunk(b"tRNS", b"\0\x01"))


def _keyed16() -> bytes:
    """16-bit grey, its first sample transparent."""
    return png(WIDTH, HEIGHT, 16, 0, unfiltered(ramp16()), between=chunk(b"tRNS", b"\0\0"))


def _pixel_bomb() -> bytes:
    """4 x 4 pixels followed by 200 MiB of zeros in the same compressed stream."""
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zeros(200 * 2**20)) + chunk(b"IEND", b"")


def _top_down() -> bytes:
    rows = np.ascontiguousarray(picture()[:, :, ::-1]).tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, -HEIGHT, 1, 24, 0, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + header + rows


def _long_comment() -> bytes:
    whole = saved(palette(), "GIF")
    table = 13 + (3 << ((whole[10] & 7) + 1))
    return whole[:table] + b"!\xfe" + (b"\xff" + b"c" * 255) * 8000 + b"\0" + whole[table:]


def _circle() -> bytes:
    """A page that names itself as the next one."""
    whole = bytearray(tiff(page(WIDTH, HEIGHT, (8, 8, 8), 2), picture().tobytes()))
    start = struct.unpack_from("<I", whole, 4)[0]
    end = start + 2 + 12 * struct.unpack_from("<H", whole, start)[0]
    struct.pack_into("<I", whole, end, start)
    return bytes(whole)


def _archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("evil.txt"), "hello")
    return stream.getvalue()
