"""From a request to the bytes of its images: raw body, form with files, or JSON with base64; never more than allowed.

A body is read whole before anything is done with it, within a limit of bytes and of seconds, so that a client that
sends slowly or without end costs a connection and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from sortal.core.errors import DeadlineError, InputError
from sortal.serve.settings import ServeSettings

_MOST_FIELDS = 16
_DEEPEST = 8
_DRAINED = 4
"""Bodies that are too large are read, and thrown away, up to so many times what is allowed."""


class TooLargeError(InputError):
    """More bytes, or more images, than one request may bring."""


async def images_of(request: Request, settings: ServeSettings) -> list[bytes]:
    """The encoded images of a request, at least one.

    Raises TooLargeError, DeadlineError where the body is not there in time, InputError for what is neither an image, a
    form with files nor JSON with `image` or `images`.
    """
    body = await read_body(request, settings)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = await _from_form(request.headers, body, settings)
    elif kind == "application/json":
        images = _from_json(body)
    else:
        images = [body]
    if not images or not all(images):
        raise InputError("there is no image in the request", hint="curl --data-binary @a.jpg, or -F file=@a.jpg")
    if len(images) > settings.images:
        raise TooLargeError(f"one request may bring {settings.images} images", received=str(len(images)))
    return images


async def read_body(request: Request, settings: ServeSettings) -> bytes:
    """The whole body. Raises TooLargeError or DeadlineError."""
    most = int(settings.body_mb * 1e6)
    stated = request.headers.get("content-length", "")
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.body_s):
            async for part in request.stream():
                size += len(part)
                if size > _DRAINED * most:  # a client that is still sending would not read the refusal
                    break
                if size <= most:
                    parts.append(part)
    except TimeoutError as error:
        raise DeadlineError(f"the body was not there within {settings.body_s:g} s") from error
    except ClientDisconnect as error:
        raise InputError("the client went away") from error
    if size > most:
        raise _too_large(settings, stated if stated.isdigit() else f"more than {most:,}")
    return b"".join(parts)


def _too_large(settings: ServeSettings, received: str) -> TooLargeError:
    return TooLargeError(f"a body may have {settings.body_mb:g} MB", received=f"{received} bytes")


async def _from_form(headers: Headers, body: bytes, settings: ServeSettings) -> list[bytes]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        headers,
        once(),
        max_files=settings.images + 1,
        max_fields=_MOST_FIELDS,
        max_part_size=int(settings.body_mb * 1e6),
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise InputError(f"the form cannot be read: {getattr(error, 'message', error)}") from error
    try:
        return [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
    finally:
        await form.close()


def _from_json(body: bytes) -> list[bytes]:
    found = parse_json(body)
    if not isinstance(found, dict) or not ({"image", "images"} & set(found)):
        raise InputError("JSON has to be an object with image or images, each in base64")
    texts = found["images"] if "images" in found else [found["image"]]
    if not isinstance(texts, list):
        raise InputError("images has to be a list of texts in base64")
    return [_decoded(text) for text in texts]


def parse_json(body: bytes) -> Any:
    """JSON of moderate depth. Raises InputError."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("the body is no JSON") from error
    if _depth(found) > _DEEPEST:
        raise InputError("the JSON is nested too deeply")
    return found


def _depth(value: Any) -> int:
    deepest, layer = 0, [value]
    while layer and deepest <= _DEEPEST:
        deepest += 1
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return deepest


def _decoded(text: Any) -> bytes:
    if not isinstance(text, str):
        raise InputError("an image in JSON is a text in base64", received=type(text).__name__)
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("an image is not in base64") from error
