"""The line: newest frames to workers, and exactly one result for every frame that was taken.

Frames wait in a bounded buffer; of a live source the oldest is dropped for a newer one. A free worker takes as many as
a batch holds. A frame that is not answered in time is rejected on time, whatever the worker does; a worker that hangs
is killed and replaced by the pool, and the line goes on. Results leave in the order of frames.

    received = answered + abstained + unknown + rejected (dropped, late, crashes, or why the image cannot be read)
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sortal.serve.batcher import CRASHES
from sortal.serve.pool import KILLS, Answer, Worker, WorkerLostError
from sortal.stream.frame import DROPPED, LATE, Counts, Frame
from sortal.stream.memory import FrameMemory
from sortal.stream.settings import StreamSettings
from sortal.stream.sizes import Size, Sizes

_NAP_S = 0.01
_MOST_OPEN = 256
"""Frames without a result, where the source waits; those that wait in memory are far fewer."""


class Line:
    """Takes frames of one camera and decides each."""

    def __init__(
        self,
        sizes: Sizes,
        memory: FrameMemory,
        settings: StreamSettings,
        *,
        live: bool,
        top: int,
        free: Callable[[int], None],
        decided: Callable[[Frame], None],
        keeps_up: Callable[[], bool] = lambda: True,
    ):
        self.counts = Counts()
        self._sizes, self._memory, self._settings = sizes, memory, settings
        self._live, self._top = live, top
        self._free, self._decided, self._keeps_up = free, decided, keeps_up
        self._waiting: deque[Frame] = deque()
        self._open: deque[Frame] = deque()
        self._arrived, self._opened = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to hand out frames and to watch their age."""
        self._tasks = {asyncio.create_task(self._run())}
        if self._live:
            self._tasks.add(asyncio.create_task(self._reap()))

    def take(self, message: dict[str, Any]) -> None:
        """A frame lies in a slot."""
        frame = self._received(message)
        frame.slot, frame.size = message["slot"], message["size"]
        self.counts.missed += message["missed"]
        self._waiting.append(frame)
        while self._live and len(self._waiting) > self._settings.buffer:
            self._reject(self._waiting.popleft(), DROPPED)
        self._arrived.set()

    def skip(self, message: dict[str, Any]) -> None:
        """A frame without an image."""
        self._reject(self._received(message), str(message["reason"]))

    @property
    def has_room(self) -> bool:
        """Whether a frame without an image may come: always of a live source, else when results are read."""
        return self._live or (self._keeps_up() and len(self._open) < _MOST_OPEN)

    def after_these(self, call: Callable[[], None]) -> None:
        """Call when every frame taken so far has its result."""
        if self._open:
            self._open[-1].afterwards.append(call)
        else:
            call()

    async def drain(self) -> None:
        """Wait until every frame has its result."""
        while self._open:
            await asyncio.sleep(_NAP_S)

    async def stop(self) -> None:
        """Reject what is left and end."""
        for frame in list(self._open):
            self._reject(frame, LATE)
        self._leave()
        tasks = [*self._tasks, *self._batches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def waiting(self) -> int:
        """Frames that wait for a worker."""
        return len(self._waiting)

    def _received(self, message: dict[str, Any]) -> Frame:
        self.counts.received += 1
        number = self.counts.received - 1
        frame = Frame(number=number, time_s=message["time_s"], taken_s=message["taken_s"], name=message["name"])
        self._open.append(frame)
        self._opened.set()
        return frame

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            while not self._keeps_up():  # what nobody reads need not be answered yet
                await asyncio.sleep(_NAP_S)
            size = self._sizes.current
            worker = await size.pool.free_worker()
            batch = await self._collect()
            if not batch:
                size.pool.give_back(worker)
                continue
            task = asyncio.create_task(self._answer(size, worker, batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _collect(self) -> list[Frame]:
        """The frames that have waited longest, as many as a batch holds; one that a worker died with, alone."""
        if self._settings.delay_ms and self._waiting:
            await self._wait_for_others()
        batch: list[Frame] = []
        while self._waiting and len(batch) < self._settings.batch:
            if batch and self._waiting[0].kills:
                break
            frame = self._waiting.popleft()
            if not frame.is_decided:
                self._lift(frame)
                batch.append(frame)
            if frame.kills and batch:
                break
        if not self._waiting:
            self._arrived.clear()
        return batch

    async def _wait_for_others(self) -> None:
        end_s = time.monotonic() + self._settings.delay_ms / 1e3
        while len(self._waiting) < self._settings.batch and time.monotonic() < end_s:
            await asyncio.sleep(min(self._settings.delay_ms / 1e3, _NAP_S))

    async def _answer(self, size: Size, worker: Worker, batch: list[Frame]) -> None:
        started_s = time.monotonic()
        try:
            answers = await size.pool.answer(worker, [frame.data or b"" for frame in batch], top=self._top)
        except WorkerLostError:
            self._ask_again(batch)
            return
        self.counts.batches += 1
        self._sizes.observe(size, 1e3 * (time.monotonic() - started_s) / len(batch))
        for frame, answer in zip(batch, answers, strict=True):
            frame.pixels = size.name
            self._decide(frame, answer)

    def _ask_again(self, batch: list[Frame]) -> None:
        """Frames of a dead worker go to the front, each alone; the one that kills is rejected."""
        for frame in reversed(batch):
            frame.kills += 1
            if frame.is_decided:
                continue
            if frame.kills >= KILLS:
                self._reject(frame, CRASHES)
            else:
                self._waiting.appendleft(frame)
        if self._waiting:
            self._arrived.set()

    def _decide(self, frame: Frame, answer: Answer) -> None:
        if frame.is_decided:
            return
        now_s = time.monotonic()
        if self._live and now_s > self._end_s(frame):
            self._reject(frame, LATE)
        elif "error" in answer:
            self._reject(frame, str(answer.get("code", "error")))
        else:
            frame.answer, frame.done_s = answer, now_s
            self._leave()

    def _reject(self, frame: Frame, reason: str) -> None:
        if frame.is_decided:
            return
        self._lift(frame)
        frame.reason, frame.done_s = reason, time.monotonic()
        self._leave()

    def _lift(self, frame: Frame) -> None:
        """Copy a frame out of its slot, which is free then."""
        if frame.slot is None:
            return
        frame.data = self._memory.copied(frame.slot, frame.size)
        self._free(frame.slot)
        frame.slot = None

    def _leave(self) -> None:
        """Results leave in order."""
        while self._open and self._open[0].is_decided:
            frame = self._open.popleft()
            self.counts.states[frame.state] += 1
            if frame.reason:
                self.counts.reasons[frame.reason] = self.counts.reasons.get(frame.reason, 0) + 1
            self._decided(frame)
            for call in frame.afterwards:
                call()

    async def _reap(self) -> None:
        """Reject frames when their time is over."""
        while True:
            if not self._open:
                self._opened.clear()
                await self._opened.wait()
                continue
            wait_s = self._end_s(self._open[0]) - time.monotonic()
            if wait_s <= 0:
                self._reject(self._open[0], LATE)
                continue
            await asyncio.sleep(wait_s)

    def _end_s(self, frame: Frame) -> float:
        return frame.taken_s + self._settings.max_age_ms / 1e3
