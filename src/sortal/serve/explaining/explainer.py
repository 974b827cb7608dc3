"""The one process that explains the answers of a classifier: started late, asked in turn, ended when nobody asks.

One explanation is computed at a time, a few wait, more are refused. Each has a deadline, waiting included, and a
process that is in the middle of one by then is killed. When the classifier was exchanged, the next one starts anew.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sortal.core.errors import DeadlineError, ImageError, InputError, InternalError, MachineError, OverloadError
from sortal.serve.frames import Frame
from sortal.serve.pool import Worker, WorkerLostError, begin
from sortal.serve.service import Service

MOST_WAITING = 4
"""Explanations that are computed or wait; more are refused."""
IDLE_S = 60.0
"""A process that nobody asked for so long is ended, which gives its memory back."""
_MODULE = "sortal.serve.explaining.process"


class Explainer:
    """Explains what the classifier of a service answers."""

    def __init__(self, service: Service):
        self._service, self._settings = service, service.settings
        self._turn = asyncio.Lock()
        self._asked = 0
        self._worker: Worker | None = None
        self._model = ""
        self._seconds = 1.0
        self._idle: asyncio.TimerHandle | None = None
        self._endings: set[asyncio.Task[None]] = set()

    async def explain(self, image: bytes, class_name: str | None, *, pictures: bool) -> Frame:
        """What `process` tells of an encoded image, with a PNG for each map where `pictures` are wanted.

        Raises ImageError, InputError for an unknown class, OverloadError where too many ask, DeadlineError,
        MachineError where the process does not start, InternalError where it died.
        """
        if self._asked >= MOST_WAITING:
            raise OverloadError("too many explanations are asked for", retry_after_s=self._asked * self._seconds)
        self._asked += 1
        try:
            async with asyncio.timeout(self._settings.explain_s), self._turn:
                return _checked(await self._explained({"class": class_name, "pictures": pictures}, image))
        except TimeoutError as error:
            raise DeadlineError(f"not explained within {self._settings.explain_s:g} s") from error
        finally:
            self._asked -= 1

    async def stop(self) -> None:
        """End the process."""
        self._stay()
        async with self._turn:
            await self._end()
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _explained(self, asked: dict[str, Any], image: bytes) -> Frame:
        self._stay()
        worker, loop = await self._ready(), asyncio.get_running_loop()
        started_s = loop.time()
        try:
            frame = await worker.exchange(asked, [image], limit_s=self._settings.explain_s)
        except WorkerLostError as error:
            self._worker = None
            raise InternalError("the process that explains died with this image") from error
        except asyncio.CancelledError:
            self._worker = None  # `exchange` has ended it
            raise
        self._seconds = loop.time() - started_s
        self._idle = loop.call_later(IDLE_S, self._rest)
        return frame

    async def _ready(self) -> Worker:
        model = str(self._service.model)
        if self._worker is not None and (model != self._model or self._worker.process.returncode is not None):
            await self._end()
        if self._worker is None:
            worker = await begin(_MODULE, {"model": model, "threads": self._settings.threads})
            header = (await worker.hear(self._settings.start_s)).header
            if header.get("kind") != "ready":
                await worker.end()
                raise MachineError(f"answers cannot be explained: {header.get('what', 'unknown reason')}")
            self._worker, self._model = worker, model
        return self._worker

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rest(self) -> None:
        worker = self._worker
        if self._asked == 0 and worker is not None:
            self._worker = None  # who asks from now on starts another one
            ending = asyncio.create_task(worker.end())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()


def _checked(frame: Frame) -> Frame:
    """Raises what the process refused."""
    told = frame.header
    if told.get("kind") == "explained":
        return frame
    if told.get("kind") != "refused":
        raise InternalError("the process that explains answered something else")
    if "code" in told:
        raise ImageError(told["code"], told["what"], received=told["received"])
    raise InputError(told["what"], received=told["received"], hint=told["hint"])
