"""Everything that OpenCV captures: network cameras over RTSP, video files, devices. Imported only in the child.

FFmpeg is kept to the protocols and containers of the source: a playlist or a script that is called like a video opens
neither files nor connections.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sortal.core.errors import InputError
from sortal.stream.sources import Asked, CaptureError, EndedEarlyError, Shot
from sortal.stream.sources.pace import Pace

_NETWORK = "protocol_whitelist;rtsp,rtp,udp,tcp,tls,http,https,crypto|rtsp_transport;tcp"
_CONTAINERS = "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,mjpeg,ogg,flv,asf,h264,hevc,gif,mxf"
_FILE = f"protocol_whitelist;file|format_whitelist;{_CONTAINERS}"
_OVER_HTTP = f"protocol_whitelist;http,https,tcp,tls,crypto|format_whitelist;{_CONTAINERS},mpjpeg"
CORRUPT = "corrupt"
_FEW, _SHARE = 2, 0.01
"""Frames that a video may lack although it is whole; the share is of what it says."""
_FAILURES = 50
"""Frames in a row that do not decode before a source counts as lost."""


class OpenCV:
    """A kind of capture that OpenCV knows."""

    quiet = False

    def __init__(self, *, live: bool, device: bool = False, network: bool = False):
        self.live, self._device, self._network = live, device, network

    def check(self, address: str) -> None:
        """Raises InputError for what is no device number, host or file; MissingExtraError without OpenCV."""
        from importlib.util import find_spec

        from sortal.core.errors import MissingExtraError

        if self._device and not (address.isdecimal() and len(address) <= 3):
            raise InputError("no number of a camera", where="--source", received=f"camera:{address}", hint="camera:0")
        if self._network and not _host(address):
            raise InputError("the address names no host", where="--source", hint="rtsp://host:554/stream")
        if not self._device and not self._network and not Path(address).is_file():
            raise InputError("there is no such video", where=address)
        if find_spec("cv2") is None:
            raise MissingExtraError("opencv-python-headless", "stream")

    def shots(self, address: str, asked: Asked) -> Iterator[Shot | None]:
        """Frames until the file ends. Raises CaptureError where a camera or a file cannot be opened or is lost."""
        cv2 = _imported(self._options(address))
        capture = self._opened(cv2, address, asked.open_s)
        try:
            frames = self._of_time(cv2, capture, asked) if asked.live else self._of_file(cv2, capture, asked)
            for pixels in frames:
                yield Shot(reason=CORRUPT) if pixels is None else _shot(cv2, pixels)
        finally:
            capture.release()
        if self.live:
            raise CaptureError("ended", "the camera ended the stream")

    def _options(self, address: str) -> str:
        if not self._network:
            return _FILE
        return _OVER_HTTP if address.lower().startswith("http") else _NETWORK

    def _opened(self, cv2: Any, address: str, open_s: float) -> Any:
        wait = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1e3 * open_s), cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1e3 * open_s)]
        capture = cv2.VideoCapture()
        if self._device:
            capture.open(int(address))
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        else:
            capture.open(address, cv2.CAP_FFMPEG, wait)
        if not capture.isOpened():
            if self.live:
                raise CaptureError("connection", "the camera does not answer, or with no video that can be read")
            raise CaptureError("video", "the video cannot be opened: cut off, damaged, or of a kind that is not read")
        return capture

    def _of_time(self, cv2: Any, capture: Any, asked: Asked) -> Iterator[Any]:
        """As time passes: frames that are not due are not even converted; a file is played at its own rate. None for
        one that does not decode."""
        pace, step_s = Pace(asked.fps), 0.0 if self.live else 1.0 / _rate(cv2, capture)
        failures, number, next_s = 0, 0, time.monotonic()
        while capture.grab():
            number += 1
            if step_s:
                next_s += step_s
                time.sleep(max(next_s - time.monotonic(), 0.0))
            if not pace.is_due(time.monotonic()):
                continue
            whole, pixels = capture.retrieve()
            failures = 0 if whole else failures + 1
            if failures > _FAILURES:
                raise CaptureError("garbage", "what the camera sends does not decode")
            yield pixels if whole else None
        if not self.live:
            _check_length(cv2, capture, number)

    def _of_file(self, cv2: Any, capture: Any, asked: Asked) -> Iterator[Any]:
        """Every frame, or as many a second of the video as asked; None for one that does not decode."""
        step_s, pace, number = 1.0 / _rate(cv2, capture), Pace(asked.fps), 0
        while capture.grab():
            due = pace.is_due(number * step_s)
            number += 1
            if not due:
                continue
            whole, pixels = capture.retrieve()
            yield pixels if whole else None
        _check_length(cv2, capture, number)


RTSP = OpenCV(live=True, network=True)
DEVICE = OpenCV(live=True, device=True)
VIDEO = OpenCV(live=False)


def _imported(options: str) -> Any:
    """OpenCV with FFmpeg kept to some protocols; it reads these variables when it opens something."""
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options
    os.environ["OPENCV_LOG_LEVEL"] = "OFF"
    import cv2

    cv2.setNumThreads(1)
    return cv2


def _shot(cv2: Any, pixels: Any) -> Shot:
    """A frame in BGR or grey as a binary PPM or PGM, converted where it is going to lie."""
    height, width = pixels.shape[:2]
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    head = f"{'P5' if grey else 'P6'}\n{width} {height}\n255\n".encode()
    size = len(head) + width * height * (1 if grey else 3)

    def write(memory: memoryview) -> None:
        import numpy as np

        memory[: len(head)] = head
        place = np.frombuffer(memory[len(head) : size], np.uint8)
        if grey:
            place[:] = pixels.ravel()
        else:
            code = cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
            cv2.cvtColor(pixels, code, dst=place.reshape(height, width, 3))

    return Shot(size=size, write=write, shape=(width, height))


def _check_length(cv2: Any, capture: Any, frames: int) -> None:
    """Raises CaptureError for a video without frames, EndedEarlyError where it says that it has more.

    Some containers only say how long they last, so a few frames less are no news.
    """
    if frames == 0:
        raise CaptureError("video", "the video holds no frame that decodes")
    stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if stated - frames > max(_FEW, _SHARE * stated):
        what = f"it holds {frames:,} frames and says {stated:,.0f}; it is cut off or damaged"
        raise EndedEarlyError("short", what)


def _rate(cv2: Any, capture: Any) -> float:
    """Frames a second that a file says it has; 25 where it says nothing."""
    told = float(capture.get(cv2.CAP_PROP_FPS))
    return told if 0.0 < told < 1000.0 else 25.0


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
