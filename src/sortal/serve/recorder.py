"""What a workspace remembers of a server: events, many in one commit, and images where that was asked for.

Written beside the answers, never before them: a disk that is full or slow costs no request. Events wait for it, up to a
limit; those that there is no room for, or that it still refuses at the end, are lost and counted. What people say about
answers is different: it is acknowledged when it is on the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sortal.core.errors import InputError, SortalError
from sortal.core.events import Event, Role
from sortal.serve.settings import ServeSettings
from sortal.workspace.arms import SHADOWED
from sortal.workspace.events import append_events
from sortal.workspace.feedback import Stored, say_label
from sortal.workspace.folder import Workspace
from sortal.workspace.images import keep_image
from sortal.workspace.review import ReviewItem, review_queue

_FLUSH_S = 0.2
_PATIENCE_S = 2.0
"""Between attempts while the disk refuses."""
_TELL_S = 60.0
"""Between lines of the log that say so."""
_MOST_WAITING = 20_000
_MOST_WAITING_BYTES = 256_000_000
"""Of images; more are not kept."""
_FIELDS = ("label", "request_id", "image_sha256", "source", "comment", "key")


class Recorder:
    """Writes into one workspace, from one task."""

    def __init__(self, workspace: Workspace, settings: ServeSettings, log: Callable[[dict[str, Any]], None]):
        self.lost = 0
        """Events that there was no room for, or that could not be written at the end."""
        self._workspace, self._settings, self._log = workspace, settings, log
        self._events: deque[Event] = deque()
        self._images: deque[bytes] = deque()
        self._image_bytes = 0
        self._left_out = 0
        """Images that there was no room for since images were written last."""
        self._refused = False
        self._told_s = -_TELL_S
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Events that wait because the disk refused them."""
        return len(self._events) if self._refused else 0

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run())

    def note(
        self,
        name: str,
        images: Sequence[bytes],
        answers: Sequence[dict[str, Any]],
        description: dict[str, Any],
        *,
        milliseconds: float,
        role: Role = "live",
    ) -> None:
        """Remember the answers to the images of one request; several are called `name/0`, `name/1` ..., and those of a
        shadow `name#shadow`."""
        behind = SHADOWED if role == "shadow" else ""  # a request has one event of an answer to a client
        answered = datetime.now(UTC).isoformat(timespec="microseconds")
        for number, (data, answer) in enumerate(zip(images, answers, strict=True)):
            if "error" in answer:
                continue
            if len(self._events) >= _MOST_WAITING:
                self.lost += 1
                continue
            self._events.append(
                Event(
                    time=answered,
                    request_id=(name if len(images) == 1 else f"{name}/{number}") + behind,
                    bundle_id=description["bundle_id"],
                    image_sha256=sha256(data).hexdigest(),
                    top=tuple((description["labels"][index], chance) for index, chance in answer["top"][:5]),
                    abstained=answer["abstained"],
                    unknown_score=answer.get("unknown_score"),
                    latency_ms=milliseconds,
                    role=role,
                )
            )
            if role != "shadow" and self._is_kept(answer):
                self._keep(data)

    async def say(self, told: Any) -> Stored:
        """Store what a client says an image shows. Raises InputError for what is no statement, SortalError where the
        workspace refuses, and as `say_label`."""
        if not isinstance(told, dict) or not isinstance(told.get("label"), str):
            raise InputError("a statement is an object with a label, and request_id or image_sha256")
        wrong = [key for key, value in told.items() if key not in _FIELDS or not isinstance(value, str)]
        if wrong:
            raise InputError("no such field of a statement, or no text", received=", ".join(map(str, wrong))[:80])
        error = await self._flush()  # the event that it is about may be on its way
        if error is not None:
            raise error
        return await asyncio.to_thread(say_label, self._workspace, **told)

    async def review(self, limit: int) -> list[ReviewItem]:
        """The images that wait for a person, see `workspace.review`; of answers that are on the disk."""
        await self._flush()
        return await asyncio.to_thread(review_queue, self._workspace, limit)

    async def stop(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._flush()
        if self._events:
            self.lost += len(self._events)
            self._log({"event": "lost", "events": len(self._events)})
            self._events.clear()

    def _is_kept(self, answer: dict[str, Any]) -> bool:
        doubtful = answer["abstained"] or answer.get("unknown", False)
        return self._settings.keep == "all" or (self._settings.keep == "doubtful" and doubtful)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PATIENCE_S if self._refused else _FLUSH_S)
            await self._flush()

    def _keep(self, data: bytes) -> None:
        """Let an image wait for the disk, where there is room for it."""
        if self._image_bytes + len(data) > _MOST_WAITING_BYTES:
            self._left_out += 1
            return
        self._images.append(data)
        self._image_bytes += len(data)

    async def _flush(self) -> SortalError | None:
        """Write what waits; why events still do. Whoever comes meanwhile waits until that is on the disk."""
        async with self._turn:
            error = await self._write_events()
            await self._write_images()
            return error

    async def _write_events(self) -> SortalError | None:
        events = list(self._events)
        if not events:
            return None
        try:
            await asyncio.to_thread(append_events, self._workspace, events)
        except SortalError as error:
            self._refused = True
            self._tell_refused(str(error))
            return error
        for _ in events:
            self._events.popleft()
        if self._refused:
            self._refused, self._told_s = False, -_TELL_S
            self._log({"event": "recorded again", "events": len(events)})
        return None

    def _tell_refused(self, reason: str) -> None:
        if time.monotonic() - self._told_s >= _TELL_S:
            self._told_s = time.monotonic()
            self._log({"event": "not recorded", "waiting": len(self._events), "lost": self.lost, "reason": reason})

    async def _write_images(self) -> None:
        unkept, self._left_out = self._left_out, 0
        reason = "too many were waiting" if unkept else ""
        for _ in range(len(self._images)):
            data = self._images.popleft()
            try:
                if await asyncio.to_thread(keep_image, self._workspace, data) is None:
                    unkept, reason = unkept + 1, "images with labels take all the room: raise images_mb"
            except SortalError as error:
                unkept, reason = unkept + 1, str(error)
            finally:
                self._image_bytes -= len(data)
        if unkept:
            self._log({"event": "not kept", "images": unkept, "reason": reason})
