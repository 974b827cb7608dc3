"""Which format bytes are in, and what their header says, before anything is decoded.

Formats are told by their first bytes, never by a file's name. Seven are opened; the others that are known by name are
refused with it: fewer decoders are fewer ways in. Pixels are the matter of `data.decode`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from sortal.core.errors import ImageError
from sortal.data.containers import bmp, gif, jpeg, netpbm, png, tiff, webp
from sortal.data.containers.header import ImageHeader, corrupt, truncated

ALLOWED_FORMATS: dict[str, Callable[[bytes], ImageHeader]] = {
    "JPEG": jpeg.header,
    "PNG": png.header,
    "GIF": gif.header,
    "BMP": bmp.header,
    "WEBP": webp.header,
    "TIFF": tiff.header,
    "PPM": netpbm.header,
}
"""The formats that are opened, with the reader of their header."""

_SIGNATURES: tuple[tuple[str, re.Pattern[bytes]], ...] = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("JPEG", rb"\xff\xd8\xff"),
        ("PNG", rb"\x89PNG\r\n\x1a\n"),
        ("GIF", rb"GIF8[79]a"),
        ("WEBP", rb"RIFF....WEBP"),
        ("TIFF", rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"),
        ("PPM", rb"P[1-7Ff]\s"),
        ("BMP", rb"BM.{12}(?:\x0c|\x28|\x34|\x38|\x40|\x6c|\x7c)\0\0\0"),
        ("ICO", rb"\0\0[\x01\x02]\0[^\0]\0"),
        ("EPS", rb"%!PS|\xc5\xd0\xd3\xc6"),
        ("PDF", rb"%PDF-"),
        ("AVIF", rb"....ftypavi[fs]"),
        ("HEIF", rb"....ftyp(?:hei|hev|mif1|msf1)"),
        ("JPEG 2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        ("PSD", rb"8BPS"),
        ("SVG", rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]"),
        ("Radiance HDR", rb"#\?R"),
        ("OpenEXR", rb"\x76\x2f\x31\x01"),
        ("DDS", rb"DDS "),
        ("QOI", rb"qoif"),
        ("FITS", rb"SIMPLE  ="),
        ("ICNS", rb"icns"),
        ("DICOM", rb".{128}DICM"),
    )
)


def read_header(data: bytes) -> ImageHeader:
    """Format, size as stored, mode, frames and orientation, without decoding. Raises ImageError."""
    name = sniff(data)
    if name not in ALLOWED_FORMATS:
        raise ImageError(
            "format_not_allowed", f"{name} is not opened; convert it to PNG, JPEG or TIFF", received=preview(data)
        )
    try:
        found = ALLOWED_FORMATS[name](data)
    except struct.error as error:
        raise truncated(f"the {name} header ends early") from error
    if found.width < 1 or found.height < 1:
        raise corrupt(f"the header declares {found.width} x {found.height} pixels")
    return found


def sniff(data: bytes) -> str:
    """The format's name from the first bytes. Raises ImageError where there are none or nothing recognizes them."""
    if not data:
        raise ImageError("empty", "there are no bytes")
    start = data[:1024]
    for name, pattern in _SIGNATURES:
        if pattern.match(start):
            return name
    if b"\x89PNG\r\n\x1a\n".startswith(start[:8]) or b"\xff\xd8\xff".startswith(start[:3]):
        raise truncated("the data ends inside the signature")
    raise ImageError("not_an_image", "no image format recognizes the bytes", received=preview(data))


def preview(data: bytes) -> str:
    """The first bytes as printable text, for messages."""
    return f"{len(data)} bytes beginning {data[:16]!r}"
