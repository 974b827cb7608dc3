"""Cameras that send JPEG after JPEG over HTTP (`multipart/x-mixed-replace`), read without OpenCV.

Frames keep the bytes that the camera sent, so a damaged one is seen as damaged and a recorded one is the original.
Redirects are not followed. What is no motion JPEG is left to FFmpeg.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

from sortal.core.errors import InputError, MissingExtraError
from sortal.stream.sources import Asked, CaptureError, Shot, whole_file
from sortal.stream.sources.address import asked_of
from sortal.stream.sources.pace import Pace

MOST_FRAME = 64 * 2**20
_MOST_LINE = 8192
_PIECE = 1 << 16


class _Stream(Protocol):
    def read1(self, n: int = -1, /) -> bytes:
        """What is there, at least a byte; nothing at the end."""


class MotionJpeg:
    """A camera with a web address."""

    live = True
    quiet = False

    def check(self, address: str) -> None:
        """Raises InputError where the address names no host."""
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError as error:
            raise InputError("no address of a camera", where="--source", hint="http://host:port/path") from error
        if not parts.hostname or port == 0:
            raise InputError("the address names no host", where="--source", hint="http://host:port/path")

    def shots(self, address: str, asked: Asked) -> Iterator[Shot | None]:
        """Frames until the camera ends the stream. Raises CaptureError."""
        connection, response = _asked_for(address, asked.open_s)
        try:
            kind = response.getheader("Content-Type", "")
            if not kind.lower().startswith("multipart/"):
                response.close()  # some cameras have one connection for all
                yield from _other_video(address, asked, kind)
                return
            if connection.sock is not None:
                connection.sock.settimeout(None)  # who waits too long is killed from outside
            boundary = re.search(r'boundary="?([^";,]+)', kind)
            pace = Pace(asked.fps)
            for data in parts_of(response, (boundary[1] if boundary else "").encode()):
                if pace.is_due(time.monotonic()):
                    yield whole_file(data, shape=_shape(data))
        except (OSError, http.client.HTTPException) as error:
            raise CaptureError("connection", f"the camera ended the connection: {_why(error)}") from error
        finally:
            connection.close()
        raise CaptureError("ended", "the camera ended the stream")


HTTP = MotionJpeg()


def _other_video(address: str, asked: Asked, kind: str) -> Iterator[Shot | None]:
    """What FFmpeg makes of it. Raises CaptureError for what is no video, and without OpenCV."""
    from sortal.stream.sources.opencv import RTSP

    named = re.match(r"[\w.+-]+/[\w.+-]+", kind)
    shown = named[0] if named else "what it does not name"
    if shown.lower().startswith(("text/", "image/")):
        raise CaptureError("garbage", f"the camera answers with {shown}, which is no video")
    try:
        RTSP.check(address)
    except MissingExtraError as error:
        raise CaptureError("extra", f"the camera sends {shown}: {error.what}; {error.hint}") from error
    yield from RTSP.shots(address, asked)


def _asked_for(address: str, open_s: float) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(address)
    secure = parts.scheme.lower() == "https"
    host = parts.hostname or ""
    made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = made(host, parts.port, timeout=open_s)
    path, user = asked_of(parts)
    headers = {"User-Agent": "sortal", "Accept": "multipart/x-mixed-replace, image/jpeg, */*"} | user
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
    except socket.gaierror as error:
        raise CaptureError("name", "the name of the camera is not known") from error
    except ssl.SSLError as error:
        raise CaptureError("certificate", f"no secure connection: {error.reason or type(error).__name__}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CaptureError("connection", f"the camera does not answer: {_why(error)}") from error
    if response.status != http.client.OK:
        connection.close()
        reason = "refused" if response.status in (401, 403) else "status"
        raise CaptureError(reason, f"the camera answers with status {response.status}; redirects are not followed")
    return connection, response


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def parts_of(stream: _Stream, boundary: bytes) -> Iterator[bytes]:
    """The bodies of a multipart stream, by their Content-Length or up to the next boundary. Raises CaptureError for
    what is none, or ends in the middle of a frame."""
    mark = b"--" + boundary.removeprefix(b"--")
    reader = _Reader(stream)
    while True:
        head = reader.head(mark)
        if head is None:
            return
        length = re.search(rb"content-length:\s*(\d{1,10})\s*$", head, re.IGNORECASE | re.MULTILINE)
        yield reader.exactly(int(length[1])) if length else reader.until(b"\r\n" + mark)


class _Reader:
    def __init__(self, stream: _Stream):
        self._stream, self._held = stream, bytearray()

    def head(self, mark: bytes) -> bytes | None:
        """The headers of the next part, None at the end of the stream."""
        start = self._find(mark, most=_MOST_LINE)
        if start is None:
            return None
        del self._held[: start + len(mark)]
        end = self._find(b"\r\n\r\n", most=_MOST_LINE)
        if end is None:
            return None
        head = bytes(self._held[:end])
        del self._held[: end + 4]
        return head

    def exactly(self, count: int) -> bytes:
        if count > MOST_FRAME:
            raise CaptureError("garbage", f"a frame of {count:,} bytes")
        while len(self._held) < count:
            if not self._more():
                raise CaptureError("half", "the stream ended in the middle of a frame")
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    def until(self, mark: bytes) -> bytes:
        end = self._find(mark, most=MOST_FRAME)
        if end is None:
            raise CaptureError("half", "the stream ended in the middle of a frame")
        data = bytes(self._held[:end])
        del self._held[:end]
        return data

    def _find(self, mark: bytes, *, most: int) -> int | None:
        """Where `mark` begins in what is held; None where the stream ends before it."""
        looked = 0
        while True:
            place = self._held.find(mark, looked)
            if place >= 0:
                return place
            looked = max(len(self._held) - len(mark), 0)
            if len(self._held) > most + len(mark):
                raise CaptureError("garbage", f"no motion JPEG: no boundary in {len(self._held):,} bytes")
            if not self._more():
                return None

    def _more(self) -> bool:
        piece = self._stream.read1(_PIECE)
        self._held += piece
        return bool(piece)


def _shape(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a JPEG declares, None where it does not."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                data[place + 5 : place + 7], "big"
            )
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
