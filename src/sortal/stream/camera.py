"""The capturing process as the line sees it: started, watched, killed when nothing comes, replaced after a pause.

    connecting   a process was started and has sent no frame yet
    live         frames come
    lost         nothing came in time, or the source failed; the process is dead
    ended        a file is at its end; nothing more is tried

A pause doubles up to 30 s and is shortened at random, so that many lines do not come back at once. The event loop never
waits for the child: what blocks in a driver blocks there, and SIGKILL ends it.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from sortal.stream.log import Told
from sortal.stream.memory import FrameMemory
from sortal.stream.settings import LONGEST_PAUSE_S, StreamSettings
from sortal.stream.sources.address import Named

CONNECTING, LIVE, LOST, ENDED = "connecting", "live", "lost", "ended"
_MOST_MESSAGE = 1 << 16
_MOST_DONE = 100_000
_NAP_S = 0.01


class Taker(Protocol):
    """Who gets frames."""

    def take(self, message: dict[str, Any]) -> None:
        """A frame lies in a slot; see `capture.Link.put`."""

    def skip(self, message: dict[str, Any]) -> None:
        """There is a frame, and no image: why stands in `reason`."""

    @property
    def has_room(self) -> bool:
        """Whether a frame without an image, which needs no slot, may come now."""

    def state_changed(self, state: str, reason: str) -> None:
        """The camera is in another state."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Why frames do not come."""

    reason: str
    what: str


class Camera:
    """One source of frames, kept alive."""

    def __init__(self, source: Named, *, live: bool, memory: FrameMemory, settings: StreamSettings, log: Told):
        self.state, self.starts, self.losses = CONNECTING, 0, 0
        self.live = live
        self._source, self._memory, self._settings, self._log = source, memory, settings, log
        self._held: set[int] = set()
        self._freed_s = 0.0
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._shape: tuple[int, int] | None = None
        self._options: dict[str, str] = {}
        self._done: dict[str, str] = {}
        self._early = ""

    @property
    def pid(self) -> int | None:
        """Of the capturing process, where there is one."""
        return None if self._process is None else self._process.pid

    def free(self, slot: int) -> None:
        """The frame in a slot is not needed any more."""
        self._held.discard(slot)
        self._freed_s = time.monotonic()
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(bytes([slot]))

    async def run(self, taker: Taker, *, once: bool = False) -> Lost | None:
        """Hand frames to `taker` until a file ends. A video that is lost is not tried again, and why is returned. With
        `once` a folder ends when all of its files were taken."""
        self._options = {"once": "yes"} if once else {}
        pause_s = self._settings.pause_s
        while True:
            had = self.starts
            lost, frames = await self._captured(taker)
            if lost is None or not (self._source.source.live or self._source.source.quiet):
                self._change(taker, ENDED, self._early if lost is None else lost.reason)
                return lost
            self.losses += 1
            pause_s = self._settings.pause_s if frames else pause_s
            wait_s = pause_s * (0.5 + 0.5 * random.random())
            self._log(
                {"event": "camera lost", "camera": self._source.shown, "reason": lost.reason}
                | {"message": self._source.scrubbed(lost.what), "start": had + 1, "again_in_s": round(wait_s, 2)}
            )
            self._change(taker, LOST, lost.reason)
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._change(taker, CONNECTING, "")

    async def _captured(self, taker: Taker) -> tuple[Lost | None, int]:
        """One process from start to end: (why it was lost or None at the end of the source, frames that came)."""
        frames, limit_s = 0, self._settings.open_s
        between_s = 1.0 / self._settings.fps if self._settings.fps else 0.0  # nothing is said in that time
        try:
            reader = await self._started()
            while True:
                message = json.loads(await self._line(reader, limit_s))
                kind = message["kind"]
                if kind == "ended":
                    self._ended(message)
                    return None, frames
                if kind == "lost":
                    return Lost(reason=str(message["reason"]), what=str(message["what"])), frames
                if kind in ("frame", "rejected"):
                    frames, limit_s = frames + 1, self._settings.stall_s + between_s
                    self._remember(message)
                    if kind == "frame":
                        self._take(taker, message)
                    else:
                        await self._skip(taker, message)
        except TimeoutError:
            what = f"nothing came for {limit_s:g} s"
            return Lost(reason="stalled" if frames else "no_answer", what=what), frames
        except (ValueError, KeyError, TypeError, OSError):  # the process died, or says what it never should
            return Lost(reason="died", what="the capturing process died"), frames
        finally:
            await self._end()

    def _ended(self, message: dict[str, Any]) -> None:
        self._early = str(message["reason"])
        if self._early:
            what = self._source.scrubbed(str(message["what"]))
            self._log({"event": "ended early", "camera": self._source.shown, "reason": self._early, "message": what})

    async def _line(self, reader: asyncio.StreamReader, limit_s: float) -> bytes:
        """What the child says next. Raises TimeoutError where it says nothing although it has somewhere to write."""
        while True:
            try:
                async with asyncio.timeout(limit_s):
                    return await reader.readline()
            except TimeoutError:
                waits = len(self._held) == self._memory.slots or time.monotonic() - self._freed_s < limit_s
                if self.live or not waits:
                    raise

    def _remember(self, message: dict[str, Any]) -> None:
        """A file that was handed over is not handed over again by the next process."""
        if message["stamp"] is None:
            return
        self._done.pop(message["name"], None)
        self._done[message["name"]] = message["stamp"]
        if len(self._done) > _MOST_DONE:
            del self._done[next(iter(self._done))]

    async def _skip(self, taker: Taker, message: dict[str, Any]) -> None:
        while not taker.has_room:
            await asyncio.sleep(_NAP_S)
        taker.skip(message)

    def _take(self, taker: Taker, message: dict[str, Any]) -> None:
        shape = None if message["shape"] is None else (int(message["shape"][0]), int(message["shape"][1]))
        if not 0 <= message["slot"] < self._memory.slots or message["slot"] in self._held:
            raise ValueError("a slot that was not free")
        self._held.add(message["slot"])
        if self.state != LIVE:
            self._log({"event": "camera live", "camera": self._source.shown, "start": self.starts, "size": shape})
            self._change(taker, LIVE, "")
        elif shape != self._shape and shape is not None and self._shape is not None and not self._source.source.quiet:
            self._log({"event": "camera size", "camera": self._source.shown, "size": shape, "before": self._shape})
        self._shape = shape or self._shape
        taker.take(message)

    async def _started(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        self.starts += 1
        channel = theirs.fileno()
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sortal.stream.capture",
                pass_fds=[channel, self._memory.descriptor],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,  # FFmpeg writes addresses with passwords there
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_MOST_MESSAGE)
        told = {  # from here on, slots that become free are said on the socket
            "source": self._source.kind,
            "address": self._source.address,
            "channel": channel,
            "memory": self._memory.descriptor,
            "slots": self._memory.slots,
            "slot_bytes": self._memory.slot_bytes,
            "free": [slot for slot in range(self._memory.slots) if slot not in self._held],
            "fps": self._settings.fps,
            "live": self.live,
            "open_s": self._settings.open_s,
            "options": self._options,
            "done": self._done,
        }
        if process.stdin is not None:
            with suppress(ConnectionError):
                process.stdin.write(json.dumps(told).encode())
                await process.stdin.drain()
            process.stdin.close()
        return reader

    async def _end(self) -> None:
        """Kill the process and wait until it is gone."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    def _change(self, taker: Taker, state: str, reason: str) -> None:
        if state != self.state:
            self.state = state
            taker.state_changed(state, reason)
