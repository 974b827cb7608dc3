"""The process that captures: `python -m sortal.stream.capture`, told what by one JSON object on its standard input.

It writes frames into shared memory and says so, a line of JSON each, on a socket; on the same socket it is told, a byte
each, which slots are free. A live source is never waited for: a frame that finds no free slot is gone and counted. The
process may be killed at any moment, and ends when the other side is gone.
"""

from __future__ import annotations

import ctypes
import json
import signal
import socket
import sys
import time
from typing import Any

from sortal.core.errors import SortalError
from sortal.stream.memory import FrameMemory
from sortal.stream.sources import SOURCES, TOO_LARGE, Asked, CaptureError, EndedEarlyError, Shot, Source

DEATH_SIGNAL = 1
"""`PR_SET_PDEATHSIG` of Linux."""


class Link:
    """The other side of the capture, as the child sees it."""

    def __init__(self, channel: socket.socket, memory: FrameMemory, free: list[int], *, live: bool):
        self._channel, self._memory, self._free, self._live = channel, memory, free, live
        self._missed = 0

    def say(self, told: dict[str, Any]) -> None:
        """One message. Raises OSError where nobody listens."""
        self._channel.sendall(json.dumps(told).encode() + b"\n")

    def put(self, shot: Shot | None) -> None:
        """Hand a frame over."""
        time_s, taken_s = time.time(), time.monotonic()
        if shot is None:
            self.say({"kind": "alive"})
            return
        reason = shot.reason or (TOO_LARGE if shot.size > self._memory.slot_bytes else "")
        if reason:
            told = {"reason": reason, "name": shot.name, "stamp": shot.stamp}
            self.say({"kind": "rejected", **told, "time_s": time_s, "taken_s": taken_s})
            return
        slot = self._slot()
        if slot is None:
            self._missed += 1
            return
        shot.write(self._memory.slot(slot))
        self.say(
            {"kind": "frame", "slot": slot, "size": shot.size, "shape": shot.shape}
            | {"name": shot.name, "stamp": shot.stamp}
            | {"time_s": time_s, "taken_s": taken_s, "missed": self._missed}
        )
        self._missed = 0

    def end(self) -> None:
        """Wait until the other side has read all: closed with unread bytes, a socket loses what was said, too."""
        while self._channel.recv(256):
            pass

    def _slot(self) -> int | None:
        """A free slot; None where there is none now and the source does not wait."""
        self._hear(wait=False)
        while not self._free and not self._live:
            self._hear(wait=True)
        return self._free.pop(0) if self._free else None

    def _hear(self, *, wait: bool) -> None:
        try:
            freed = self._channel.recv(256, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not freed:
            raise ConnectionError("nobody listens")
        self._free.extend(freed)


def main() -> int:
    """Capture until the source ends, is lost, or nobody listens."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the line decides when to end, also where all of its group is told
    _die_with_parent()
    told = json.loads(sys.stdin.buffer.read())
    memory = FrameMemory(told["memory"], told["slots"], told["slot_bytes"])
    link = Link(socket.socket(fileno=told["channel"]), memory, told["free"], live=told["live"])
    asked = Asked(fps=told["fps"], live=told["live"], open_s=told["open_s"], options=told["options"], done=told["done"])
    try:
        _capture(link, told, asked)
        link.end()
    except OSError:
        return 1
    return 0


def _capture(link: Link, told: dict[str, Any], asked: Asked) -> None:
    source: Source = SOURCES.get(told["source"])
    try:
        for shot in source.shots(told["address"], asked):
            link.put(shot)
    except EndedEarlyError as error:
        link.say({"kind": "ended", "reason": error.reason, "what": str(error)})
    except CaptureError as error:
        link.say({"kind": "lost", "reason": error.reason, "what": str(error)})
    except ConnectionError:
        raise
    except SortalError as error:
        link.say({"kind": "lost", "reason": "error", "what": error.what})
    except Exception as error:  # a driver may raise anything; what it says may hold the address and is cleaned
        link.say({"kind": "lost", "reason": "error", "what": f"{type(error).__name__}: {error}"[:300]})
    else:
        link.say({"kind": "ended", "reason": "", "what": ""})


def _die_with_parent() -> None:
    """No orphan, also where this process is inside a call that never returns (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, int(signal.SIGKILL))


if __name__ == "__main__":
    sys.exit(main())
