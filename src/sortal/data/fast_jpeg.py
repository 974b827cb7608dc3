"""A faster decoder of training JPEGs: libjpeg-turbo through simplejpeg, at reduced scale where it serves.

The file goes through every check of the reference decoder first (`data.header`, `data.containers.jpeg`): what that
refuses is refused here with the same code. Whatever this decoder is not made for (see `fits`) or complains about, even
with a warning, is decoded by the reference. Validation images and everything in production use the reference alone.

Difference from the reference, mean over pixels after resizing: at full scale none on a 4:2:0, 4:2:2 or 4:4:4 file (both
are libjpeg-turbo); at reduced scale 0.3 grey levels on smooth photographs and 1 to 2 on very detailed ones.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

from sortal.core.errors import ImageError, MissingExtraError
from sortal.core.preprocess import Pixels
from sortal.data.containers import jpeg
from sortal.data.containers.header import ImageHeader
from sortal.data.decode import MAX_PIXELS, decode
from sortal.data.header import read_header
from sortal.data.pixels import upright

SCALES = (8, 4, 2)
"""Powers of two alone: libjpeg's other scales (3/8, 6/8, ...) have no fast transform."""
MARGIN = 1.2
"""A reduced image is at least this many times as large as needed, so that the last step still averages pixels. At 1.0
the mean difference from the reference reaches 3 grey levels, at 1.2 it stays below 2."""

_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive; arithmetic coding and lossless files are the reference's matter."""


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """Upright pixels, and how much of them is image."""

    pixels: Pixels
    """(height, width, 3) uint8."""
    extent: tuple[float, float]
    """(height, width) of the image in these pixels: 375 rows at half scale are 187.5, and the last of 188 rows holds
    only half a row. A resize that ignores it shifts the far edge by half a pixel."""
    size: tuple[int, int]
    """(height, width) of the upright image at full scale."""


def available() -> bool:
    """Whether simplejpeg is installed."""
    try:
        _simplejpeg()
    except MissingExtraError:
        return False
    return True


def fits(header: ImageHeader, stripped: bytes) -> bool:
    """Whether this decoder is for the file: three components, Huffman-coded. `stripped` is what `jpeg.strip` leaves."""
    return header.format == "JPEG" and header.mode == "RGB" and _frame_marker(stripped) in _HUFFMAN_FRAMES


def scale_for(header: ImageHeader, needed: tuple[int, int]) -> int:
    """1, 2, 4 or 8: the largest reduction that leaves MARGIN times the `needed` (height, width) of the upright image.

    An image that is stored turned is reduced only by what divides its sides: its partial last row or column would end
    up in front.
    """
    height, width = header.upright
    for scale in SCALES:
        large = height >= MARGIN * needed[0] * scale and width >= MARGIN * needed[1] * scale
        whole = header.height % scale == 0 and header.width % scale == 0
        if large and (whole or header.orientation == 1):
            return scale
    return 1


def decode_reduced(
    data: bytes, needed: tuple[int, int] | None, *, max_pixels: int = MAX_PIXELS, where: str | None = None
) -> Reduced:
    """Upright RGB pixels of any image file, at a scale that leaves at least the `needed` (height, width); None: all.

    Files that this decoder is not for come from the reference, at full scale. Raises ImageError as `decode` does, and
    MissingExtraError where simplejpeg is not installed.
    """
    library = _simplejpeg()
    if data[:3] == b"\xff\xd8\xff":
        found = _decoded(library, data, needed, max_pixels)
        if found is not None:
            return found
    pixels = decode(data, channels=3, depth=8, max_pixels=max_pixels, where=where)
    height, width = pixels.shape[:2]
    return Reduced(pixels=pixels, extent=(height, width), size=(height, width))


def _decoded(library: ModuleType, data: bytes, needed: tuple[int, int] | None, max_pixels: int) -> Reduced | None:
    """None wherever anything is odd: the reference has the last word about such a file."""
    try:
        header = read_header(data)
        stripped = jpeg.strip(data)
    except (ImageError, struct.error):
        return None
    if header.width * header.height > max_pixels or not fits(header, stripped):
        return None
    scale = 1 if needed is None else scale_for(header, needed)
    rows, columns = -(-header.height // scale), -(-header.width // scale)
    try:
        pixels = library.decode_jpeg(stripped, "RGB", min_height=rows, min_width=columns, min_factor=scale)
    except (ValueError, MemoryError):  # strict: also for damage that libjpeg would patch over
        return None
    if pixels.shape != (rows, columns, 3):
        return None
    extent = header.height / scale, header.width / scale
    turned = header.orientation >= 5
    return Reduced(
        pixels=upright(pixels, header.orientation),
        extent=extent[::-1] if turned else extent,
        size=header.upright,
    )


def _frame_marker(stripped: bytes) -> int:
    """The marker of the frame header, 0 where there is none before the first scan."""
    position = 2
    while position + 4 <= len(stripped):
        marker = stripped[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker
        if marker == 0xDA:
            return 0
        position += 2 + int(struct.unpack_from(">H", stripped, position + 2)[0])
    return 0


@lru_cache(maxsize=1)
def _simplejpeg() -> ModuleType:
    try:
        import simplejpeg
    except ImportError as error:
        raise MissingExtraError("simplejpeg", "train") from error
    module: ModuleType = simplejpeg
    return module
