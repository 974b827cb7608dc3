"""The one safe way from bytes to pixels: upright, opaque, of the declared channels and depth, or one ImageError.

The order is the defense: (1) the format is told from the first bytes and must be an allowed one; (2) its header is
read by `data.header` and the pixel limit applied before a decoder is touched; (3) the file is checked to be whole
and reduced to what pixels need (`data.containers`), so metadata, later frames and compressed text never reach
Pillow; (4) Pillow's plug-in for that format, and no other, decodes; (5) `data.pixels` converts. The first frame or
page counts. Trailing bytes are ignored. Nothing global is set, so threads may decode at once.

Reading files is `data.files`; everything after upright pixels is `core.preprocess`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from sortal.core.errors import ImageError
from sortal.data.containers import bmp, gif, jpeg, netpbm, png, tiff, webp
from sortal.data.containers.header import ImageHeader
from sortal.data.files import read_file as read_file
from sortal.data.header import read_header as read_header
from sortal.data.pixels import Pixels, from_pillow, from_samples, keyed_alpha, upright

MAX_PIXELS = 40_000_000
"""Default limit of width x height; 40 megapixels is above any common camera's picture."""

_STRIP = {
    "JPEG": jpeg.strip,
    "PNG": png.strip,
    "GIF": gif.strip,
    "BMP": bmp.strip,
    "WEBP": webp.strip,
    "TIFF": tiff.strip,
}
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_PLAIN = {1: "L", 3: "RGB"}
"""Mode of an image that has these channels already, of 8 bits."""
_NATIVE = "16L" if sys.byteorder == "little" else "16B"
_OTHER_BYTE = {"16L": "16B", "16B": "16L"}


def decode(
    data: bytes,
    *,
    channels: Literal[1, 3] = 3,
    depth: Literal[8, 16] = 8,
    max_pixels: int = MAX_PIXELS,
    where: str | None = None,
) -> Pixels:
    """(height, width, channels) upright pixels of an image file's bytes, uint8 or (depth 16) uint16, RGB order.

    Raises ImageError and nothing else; `where` names the image in it.
    """
    with _only_image_errors(where):
        header = _admitted(data, max_pixels)
        return upright(_samples(header, data, channels=channels, depth=depth), header.orientation)


def to_pixels(
    image: bytes | NDArray[Any] | Image.Image,
    *,
    channels: Literal[1, 3] = 3,
    depth: Literal[8, 16] = 8,
    max_pixels: int = MAX_PIXELS,
    where: str | None = None,
) -> Pixels:
    """Like `decode` for whatever a caller holds: an encoded file's bytes, an array or a Pillow image.

    Arrays are (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16 (full range 0..65535) or bool;
    they are taken as upright and may be returned as they are, without a copy. A Pillow image's EXIF orientation is
    applied. Raises ImageError and nothing else.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return decode(bytes(image), channels=channels, depth=depth, max_pixels=max_pixels, where=where)
    with _only_image_errors(where):
        if isinstance(image, Image.Image):
            return _from_image(image, channels=channels, depth=depth, max_pixels=max_pixels)
        if isinstance(image, np.ndarray):
            return from_samples(_checked(image), channels=channels, depth=depth)
        raise ImageError("not_an_image", "an image is bytes, an array or a Pillow image", received=type(image).__name__)


def to_source(
    image: bytes | NDArray[Any] | Image.Image,
    *,
    channels: Literal[1, 3] = 3,
    depth: Literal[8, 16] = 8,
    max_pixels: int = MAX_PIXELS,
    where: str | None = None,
) -> Pixels | Image.Image:
    """As `to_pixels`, for `core.preprocess.prepare`: an upright file of 8 bits that needs no conversion stays in the
    decoder's memory, as a loaded Pillow image of mode L or RGB. The same pixels, three copies fewer (640 x 480: 4.7
    instead of 7.3 ms from bytes to a prepared image).
    """
    if not isinstance(image, bytes | bytearray | memoryview):
        return to_pixels(image, channels=channels, depth=depth, max_pixels=max_pixels, where=where)
    data = bytes(image)
    with _only_image_errors(where):
        header = _admitted(data, max_pixels)
        if (header.mode, depth, header.orientation) == (_PLAIN[channels], 8, 1) and header.format != "PPM":
            decoded = _load(header, _STRIP[header.format](data))
            if decoded.mode == _PLAIN[channels] and not decoded.has_transparency_data:
                return decoded
            return upright(from_pillow(decoded, channels=channels, depth=depth), header.orientation)
        return upright(_samples(header, data, channels=channels, depth=depth), header.orientation)


def _admitted(data: bytes, max_pixels: int) -> ImageHeader:
    header = read_header(data)
    _limit(header.width, header.height, max_pixels)
    return header


def _samples(header: ImageHeader, data: bytes, *, channels: Literal[1, 3], depth: Literal[8, 16]) -> Pixels:
    if header.format == "PPM":
        return from_samples(netpbm.read(data), channels=channels, depth=depth)
    return _decoded(header, _STRIP[header.format](data), channels=channels, depth=depth)


def _limit(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"the header declares {width} x {height} = {width * height / 1e6:,.1f} megapixels; "
            f"the limit is {max_pixels / 1e6:,.1f}",
        )


def _decoded(header: ImageHeader, stripped: bytes, *, channels: Literal[1, 3], depth: Literal[8, 16]) -> Pixels:
    wide = _wide(header, stripped)
    if wide is not None:
        return from_samples(wide, channels=channels, depth=depth)
    return from_pillow(_load(header, stripped), channels=channels, depth=depth)


def _load(header: ImageHeader, stripped: bytes, *, low_bytes: bool = False) -> Image.Image:
    image = _PLUGINS[header.format](BytesIO(stripped))
    if image.size != (header.width, header.height):
        raise ImageError("corrupt", f"the size in the header is not that of the pixels, {image.size}")
    if low_bytes:
        image.tile = [_low_byte(tile) for tile in image.tile]
    image.load()
    if header.format == "PNG" and _may_lack_rows(image, stripped) and not png.has_all_rows(stripped):
        raise ImageError("truncated", "the pixels end before the last row")
    return image


def _may_lack_rows(image: Image.Image, stripped: bytes) -> bool:
    """Rows that the stream does not hold stay zero, so a last row with anything in it proves that all are there."""
    interlaced = stripped[28] != 0
    return interlaced or not any(image.crop((0, image.height - 1, image.width, image.height)).tobytes())


def _low_byte(tile: ImageFile._Tile) -> ImageFile._Tile:
    """The same tile, unpacking the other byte of each 16-bit sample than Pillow's 8-bit reduction keeps."""
    args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode, _, order = str(args[0]).partition(";")
    swapped = f"{mode};{_OTHER_BYTE[order.replace('16N', _NATIVE)]}"
    return tile._replace(args=(swapped, *args[1:]) if isinstance(tile.args, tuple) else swapped)


def _wide(header: ImageHeader, stripped: bytes) -> Pixels | None:
    """16-bit samples that Pillow would reduce, invert or not key: (H, W, 1..4) uint16; None for all other images."""
    mode = header.mode
    if mode not in ("I;16", "LA;16", "RGB;16", "RGBA;16"):
        return None
    if header.format == "PNG" and mode == "LA;16":
        return np.asarray(_load(header, png.as_byte_pairs(stripped))).view(">u2").astype(np.uint16)
    image = _load(header, stripped)
    if mode == "I;16":
        grey: Pixels = np.asarray(image).astype(np.uint16)[:, :, None]
        if header.format == "TIFF" and tiff.inverted(stripped):
            return np.asarray(np.uint16(65535) - grey)
        return _keyed(grey, image)
    if image.mode not in ("RGB", "RGBA"):
        raise ImageError("unsupported_mode", f"16-bit pixels of mode {image.mode}")
    high = np.asarray(image).astype(np.uint16)
    low = np.asarray(_load(header, stripped, low_bytes=True))
    high <<= np.uint16(8)
    high |= low
    return _keyed(high, image)


def _keyed(samples: Pixels, image: Image.Image) -> Pixels:
    key = image.info.get("transparency")
    if key is None:
        return samples
    return keyed_alpha(samples, key if isinstance(key, tuple) else (key,))


def _from_image(image: Image.Image, *, channels: Literal[1, 3], depth: Literal[8, 16], max_pixels: int) -> Pixels:
    _limit(image.width, image.height, max_pixels)
    image.load()
    exif = image.info.get("exif", b"")
    orientation = tiff.exif_orientation(exif) if isinstance(exif, bytes) else 1
    return upright(from_pillow(image, channels=channels, depth=depth), orientation)


def _checked(array: NDArray[Any]) -> Pixels:
    if array.dtype.kind == "f":
        raise ImageError(
            "unsupported_mode",
            "float pixels may mean 0..1 or 0..255; pass uint8, or uint16 for more depth",
            received=f"{array.dtype} {array.shape}",
        )
    samples = array[:, :, None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 3, 4):
        raise ImageError(
            "unsupported_mode", "an array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)", received=str(array.shape)
        )
    if 0 in samples.shape:
        raise ImageError("empty", "the array has no pixels", received=str(array.shape))
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255)
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype.newbyteorder("=") == np.uint16:
        return samples.astype(np.uint16, copy=False)
    raise ImageError("unsupported_mode", "an array is of uint8, uint16 or bool", received=str(array.dtype))


@contextmanager
def _only_image_errors(where: str | None) -> Iterator[None]:
    """Turn whatever a decoder raises (nearly every built-in kind was seen) into an ImageError that names `where`."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.code, error.what, where=where or error.where, received=error.received) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError("too_many_pixels", "there is not enough memory for the pixels", where=where) from error
    except Exception as error:
        raise _named(error, where) from error


def _named(error: Exception, where: str | None) -> ImageError:
    text = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return ImageError("truncated", "the data ends early", where=where)
    if "pixel mode" in text or "cannot handle" in text:
        return ImageError("unsupported_mode", f"these pixels are not read: {text}", where=where)
    return ImageError("corrupt", f"the data is damaged: {text}", where=where)
