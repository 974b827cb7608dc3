"""Small pictures of images for pages: pixels only, so that no EXIF, position or name travels with them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sortal.core.errors import ImageError
from sortal.data.decode import to_pixels
from sortal.data.header import read_header
from sortal.data.table import ImageTable

THUMBNAIL_PX = 96
Pixels = NDArray[np.uint8]


def thumbnail(table: ImageTable, row: int, longest_px: int = THUMBNAIL_PX) -> Pixels:
    """(H, W, 3) the upright image, its longer side at most `longest_px`. Raises ImageError."""
    source = table.read(row)
    image = _reduced(source, longest_px) or Image.fromarray(
        to_pixels(source, channels=3, depth=8, where=table.name(row))
    )
    image.thumbnail((longest_px, longest_px), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(image)


def thumbnails_of(
    table: ImageTable,
    rows: Sequence[int],
    longest_px: int,
    *,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Pixels | None]:
    """One for each of the `rows`, None where an image cannot be read."""

    def one(row: int) -> Pixels | None:
        with suppress(ImageError):
            return thumbnail(table, row, longest_px)
        return None

    found: list[Pixels | None] = []
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="sortal-thumbnails") as pool:
        for done, pixels in enumerate(pool.map(one, rows), start=1):
            found.append(pixels)
            if progress is not None:
                progress(done, len(rows))
    return found


def jpeg_bytes(pixels: Pixels, *, quality: int = 78) -> bytes:
    """(H, W, 3) as JPEG without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _reduced(source: bytes | NDArray[Any], longest_px: int) -> Image.Image | None:
    """A large JPEG decoded at a fraction of its size, many times quicker; None for all others."""
    if not isinstance(source, bytes) or not source.startswith(b"\xff\xd8"):
        return None
    header = read_header(source)
    if header.mode not in ("RGB", "L") or min(header.width, header.height) < 4 * longest_px:
        return None
    with suppress(Exception):  # whatever is wrong with it, the reference decoder says so
        image = Image.open(io.BytesIO(source))
        image.draft("RGB", (2 * longest_px, 2 * longest_px))
        return ImageOps.exif_transpose(image).convert("RGB")
    return None
