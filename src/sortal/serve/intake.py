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
from typing import Any, NoReturn

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from sortal.core.errors import DeadlineError, InputError, OverloadError
from sortal.serve.settings import ServeSettings

_MOST_FIELDS = 16
_DEEPEST = 8
_MOST_ITEMS = 10_000
_WAYS = {"image", "images", "url", "urls"}
_PAUSE_S = 1.0
"""After which a body for which there was no memory may come again."""
_DRAINED = 4
"""Bodies that are too large are read, and thrown away, up to so many times what is allowed."""


class TooLargeError(InputError):
    """More bytes, or more images, than one request may bring."""


async def images_of(request: Request, settings: ServeSettings) -> list[bytes]:
    """The encoded images of a request, at least one.

    Raises TooLargeError, DeadlineError where the body is not there in time, InputError for what is neither an image, a
    form with files nor JSON with `image`, `images`, `url` or `urls`. URLs are for `app.state.fetch`, see `guard.fetch`.
    """
    body = await read_body(request, settings)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    links: list[str] = []
    if kind == "multipart/form-data":
        images = await _from_form(request.headers, body, settings)
    elif kind == "application/json":
        images, links = _from_json(body)
    else:
        images = [body]
    if len(images) + len(links) > settings.images:
        raise TooLargeError(f"one request may bring {settings.images} images", received=str(len(images) + len(links)))
    if links:
        images = await _fetched(request, links)
    if not images or not all(images):
        raise InputError("there is no image in the request", hint="curl --data-binary @a.jpg, or -F file=@a.jpg")
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
    try:
        return b"".join(parts)
    except MemoryError as error:
        raise OverloadError("there is not enough memory for this body now", retry_after_s=_PAUSE_S) from error


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


def _from_json(body: bytes) -> tuple[list[bytes], list[str]]:
    """(images, URLs of images); one of the two is empty."""
    if body.count(b",") > _MOST_ITEMS:  # a list that long takes long to read, and no text in base64 has a comma
        raise InputError("the JSON has too many items")
    found = parse_json(body)
    named = _WAYS & set(found) if isinstance(found, dict) else set()
    if len(named) != 1:
        raise InputError("JSON has to be an object with image or images, each in base64, or with url or urls")
    [way] = named
    texts = found[way] if way.endswith("s") else [found[way]]
    if not isinstance(texts, list):
        raise InputError(f"{way} has to be a list of texts")
    if way in ("image", "images"):
        return [_decoded(text) for text in texts], []
    if not all(isinstance(text, str) for text in texts):
        raise InputError("a URL in JSON is a text")
    return [], texts


async def _fetched(request: Request, links: list[str]) -> list[bytes]:
    fetch = request.app.state.fetch
    if fetch is None:
        raise InputError("this server fetches no images", hint="send the image; or start it with urls=true")
    return list(await fetch(links))


def parse_json(body: bytes) -> Any:
    """JSON of moderate depth and without surprises: no NaN, no name twice in an object. Raises InputError."""
    if body.count(b":") > _MOST_ITEMS:
        raise InputError("the JSON has too many names")
    try:
        found = json.loads(body, parse_constant=_no_number, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InputError("the body is no JSON") from error
    if _depth(found) > _DEEPEST:
        raise InputError("the JSON is nested too deeply")
    return found


def _no_number(text: str) -> NoReturn:
    raise InputError("JSON has no such number", received=text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InputError("a name is twice in one object of the JSON")
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
