"""Images as bytes of requests, joined into requests that the server takes.

Files go as they are. Arrays and Pillow images become PNG with the channels and the depth of the classifier, so that
the server sees the pixels that `Classifier.predict` would see.

Shapes: H and W pixels.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sortal.core.errors import IMAGE_ERROR_CODES, ImageError
from sortal.data.containers import png
from sortal.data.decode import to_pixels
from sortal.runtime.sources import Item, Raw

_PART_BYTES = 200
"""What a form needs beside each file, rounded up."""
_QUICK = 1
"""zlib's level: pixels travel once, over a network that is quicker than a better level."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may bring, and what pixels are sent as."""

    images: int
    body_bytes: int
    channels: Any
    depth: Any


@dataclass(frozen=True, kw_only=True)
class Part:
    """Neighboring images of one request. `rows` says which ones they are."""

    rows: tuple[int, ...]
    files: tuple[bytes, ...]


def parts(
    items: Sequence[Item], wanted: Sequence[int], limits: Limits, errors: dict[int, tuple[str, str]]
) -> Iterator[Part]:
    """Those items, in order, that can be sent; the others are put into `errors`, row -> (code, message)."""
    rows: list[int] = []
    files: list[bytes] = []
    size = 0
    for row in wanted:
        item = items[row]
        try:
            data = encoded(item.open(), limits, item.name)
        except ImageError as error:
            errors[row] = (error.code, error.what)
            continue
        if files and (len(files) >= limits.images or size + len(data) + _PART_BYTES > limits.body_bytes):
            yield Part(rows=tuple(rows), files=tuple(files))
            rows, files, size = [], [], 0
        rows.append(row)
        files.append(data)
        size += len(data) + _PART_BYTES
    if files:
        yield Part(rows=tuple(rows), files=tuple(files))


def encoded(raw: Raw, limits: Limits, name: str) -> bytes:
    """The bytes that are sent for an image. Raises ImageError for what no server could read."""
    if isinstance(raw, bytes):
        data = raw
    else:
        pixels = to_pixels(raw, channels=limits.channels, depth=limits.depth, where=name)
        data = png.write(pixels, level=_QUICK)
    if not data:
        raise ImageError("empty", IMAGE_ERROR_CODES["empty"], where=name)
    if len(data) + _PART_BYTES > limits.body_bytes:
        most = f"a request to this server may have {limits.body_bytes:,} bytes"
        raise ImageError("too_large", most, where=name, received=f"{len(data):,} bytes")
    return data


def form(files: Sequence[bytes]) -> tuple[bytes, str]:
    """A form with these files, and its content type."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n\r\n'.encode()
    body = b"".join(head + data + b"\r\n" for data in files) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
