"""From an image to the small picture that the survey measures, decoded once and no further than that needs.

Large JPEG files are decoded at a half, a quarter or an eighth of their size by libjpeg itself, which still reads every
coded coefficient: what is cut short or damaged is noticed as at full size. The order of `data.decode` is kept (format
by its first bytes, header, pixel limit, strip, one plug-in), and whatever does not go smoothly is left to `decode`,
whose verdict counts.

What is measured is the matter of `data.look_measure`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from sortal.data.containers import jpeg
from sortal.data.decode import MAX_PIXELS, decode, to_pixels
from sortal.data.header import read_header
from sortal.data.look_measure import measure
from sortal.data.pixels import upright

PICTURE_PX, SHORTEST_PX = 256, 64
"""Longer and least shorter side of the picture that is measured; smaller images are measured as they are."""

_SOURCES = (
    "core/preprocess.py",
    *("data/arrays.py", "data/decode.py", "data/header.py", "data/pixels.py", "data/look.py", "data/look_measure.py"),
)


def look(image: bytes | NDArray[Any]) -> NDArray[np.uint8]:
    """The record (see `look_measure.RECORD`) of an encoded file's bytes or of upright pixels (H, W, C).

    Raises ImageError exactly where `decode` and `to_pixels` do.
    """
    return measure(*picture(image))


def picture(image: bytes | NDArray[Any]) -> tuple[Image.Image, tuple[int, int]]:
    """The small RGB picture, at most PICTURE_PX long, and the (height, width) of the whole upright image.

    Raises ImageError exactly where `decode` and `to_pixels` do.
    """
    if isinstance(image, bytes):
        found = _reduced_jpeg(image)
        if found is not None:
            return found
    pixels = to_pixels(image) if isinstance(image, np.ndarray) else decode(image)
    return _shrunk(Image.fromarray(pixels)), pixels.shape[:2]


@lru_cache(maxsize=1)
def look_settings() -> dict[str, Any]:
    """What decides a record beside the image: the sources and libraries that make it."""
    folder = Path(__file__).parents[1]
    files = [*(folder / name for name in _SOURCES), *sorted((folder / "data" / "containers").glob("*.py"))]
    summed = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
    return {"code": summed.hexdigest(), "numpy": np.__version__, "pillow": PIL.__version__}


def _reduced_jpeg(data: bytes) -> tuple[Image.Image, tuple[int, int]] | None:
    """The picture and the (height, width) of the whole image; None where `decode` shall have the last word."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    try:
        header = read_header(data)
        if header.width * header.height > MAX_PIXELS:
            return None
        image = JpegImagePlugin.JpegImageFile(BytesIO(jpeg.strip(data)))
        if image.size != (header.width, header.height):
            return None
        image.draft(None, _fitted(header.width, header.height))
        image.load()
        small = _shrunk(image if image.mode == "RGB" else image.convert("RGB"))
    except Exception:  # of any kind: `decode` finds the same again and names it
        return None
    if header.orientation != 1:
        small = Image.fromarray(upright(np.asarray(small), header.orientation))
    return small, header.upright


def _shrunk(image: Image.Image) -> Image.Image:
    size = _fitted(*image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _fitted(width: int, height: int) -> tuple[int, int]:
    """The size with a longer side of PICTURE_PX, or a shorter one of SHORTEST_PX where that is larger; never larger."""
    scale = min(1.0, max(PICTURE_PX / max(width, height), SHORTEST_PX / min(width, height)))
    return round(width * scale), round(height * scale)
