"""Requests that wait, joined into batches: bounded, in order, each with a deadline of its own.

While every worker is busy, images wait here and the next free worker takes as many as a batch holds; so batches grow
with the load and nobody waits for a batch to fill, unless `delay_ms` says so; where sizes are `preferred`, the largest
of them that is there goes at once. A deadline is kept whatever the worker does: the image leaves the queue then, and an
answer that comes later is dropped. What is more than the queue holds is refused at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from sortal.core.errors import DeadlineError, OverloadError
from sortal.serve.frames import FILES, NOT_FINITE
from sortal.serve.pool import KILLS, Answer, Pool, Worker, WorkerLostError
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.model_metrics import ModelMetrics

CRASHES = "crashes"
"""The code of an answer that is none, because workers died with the image."""
FAILURES = frozenset({CRASHES, NOT_FINITE})
"""Codes that speak of the classifier, and not of what the client sent."""
SOONEST_S = 0.1
"""A refused client is not told to ask again earlier."""
_LAST = 15
"""Batches whose median says how long an image takes; one that stood still, as machine or disk did, says nothing."""


@dataclass(frozen=True, kw_only=True)
class Went:
    """When a worker had a batch, by the monotonic clock, and what it did in that time."""

    started_s: float
    ended_s: float
    decode_s: float
    network_s: float
    images: int


@dataclass(kw_only=True, eq=False)
class Waiting:
    """One image that waits for its answer."""

    data: bytes
    since_s: float
    answer: asyncio.Future[Answer]
    what: str = FILES
    kills: int = 0
    """Workers that died while they had it."""
    went: Went | None = None
    """The batch that it was answered in."""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.answer.done()


class Batcher:
    """The queue before one pool."""

    def __init__(self, pool: Pool, settings: ServeSettings, metrics: ModelMetrics, *, top: int = 5):
        self.pool, self._metrics = pool, metrics
        self._settings, self._top = settings, top
        self._queue: OrderedDict[Waiting, None] = OrderedDict()  # whose deadline is over leaves from anywhere
        self._arrived = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()
        self._images_s: deque[float] = deque(maxlen=_LAST)

    def start(self) -> None:
        """Begin to hand out batches."""
        self._runner = asyncio.create_task(self._run())

    def count_as(self, metrics: ModelMetrics) -> None:
        """Count under another name from now on."""
        self._metrics = metrics

    @property
    def busy(self) -> int:
        """Batches that workers have now."""
        return len(self._batches)

    @property
    def length(self) -> int:
        """Images that wait."""
        return len(self._queue)

    async def submit(
        self,
        images: Sequence[bytes],
        *,
        what: str = FILES,
        within_s: float | None = None,
        went: list[Went] | None = None,
    ) -> list[Answer]:
        """Answers to all images of one request; `what` they are, see `frames`. Their batches are added to `went`.

        An image that cannot be read, or with which workers died (`CRASHES`), has an answer with `code` and `error`.
        Raises OverloadError where they do not fit into the queue (none is taken then), DeadlineError where they are
        not answered in time: within `within_s` seconds, by default the settings' `answer_s`.
        """
        limit_s = self._settings.answer_s if within_s is None else within_s
        self.refuse_overload(len(images), limit_s)
        loop, now_s = asyncio.get_running_loop(), time.monotonic()
        mine = [Waiting(data=data, since_s=now_s, answer=loop.create_future(), what=what) for data in images]
        self._queue.update(dict.fromkeys(mine))
        self._arrived.set()
        try:
            async with asyncio.timeout(limit_s):
                answers = [await one.answer for one in mine]
        except TimeoutError as error:
            raise DeadlineError(f"not answered within {limit_s:.3g} s") from error
        finally:
            for one in mine:
                one.answer.cancel()
                self._queue.pop(one, None)
        if went is not None:
            went += dict.fromkeys(one.went for one in mine if one.went is not None)
        return answers

    async def drain(self) -> None:
        """Wait until nobody waits and nothing is answered, then stop; stop also where this is cancelled."""
        try:
            while self._batches or self._queue:
                await asyncio.sleep(0.01)
        finally:
            if self._runner is not None:
                self._runner.cancel()
                await asyncio.gather(self._runner, return_exceptions=True)

    def give_up(self) -> None:
        """Drop what waits and what is answered; workers that are at it are killed."""
        self._queue.clear()
        for task in self._batches:
            task.cancel()

    def refuse_overload(self, count: int = 1, limit_s: float | None = None) -> None:
        """Raises OverloadError where so many images more would not be taken, or would be answered too late."""
        limit_s = self._settings.answer_s if limit_s is None else limit_s
        waiting = len(self._queue)
        if waiting + count > self._settings.queue:
            raise OverloadError(
                "too many images are waiting",
                retry_after_s=max(self._wait_s(waiting), SOONEST_S),
                received=f"{waiting} waiting",
            )
        soon_s = self._wait_s(len(self._queue) + count)
        if self._queue and soon_s > limit_s:
            raise OverloadError("an answer would come too late", retry_after_s=soon_s)

    def _wait_s(self, waiting: int) -> float:
        """How long so many images take, by how long the last ones took."""
        return waiting * median(self._images_s) / self._settings.workers if self._images_s else 0.0

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            worker = await self.pool.free_worker()
            batch = await self._collect()
            if not batch:
                self.pool.give_back(worker)
                continue
            task = asyncio.create_task(self._answer(worker, batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _collect(self) -> list[Waiting]:
        """The images that have waited longest, of one kind; suspects alone."""
        batch = list(islice(self._queue, await self._size()))
        for one in batch:
            del self._queue[one]
        if not self._queue:
            self._arrived.clear()
        return [one for one in batch if one.is_wanted]

    async def _size(self) -> int:
        """How many images the next batch has, when it has waited for others as long as it shall."""
        while True:
            together = self._together()
            fitting = [size for size in self._settings.preferred if size <= together]
            if fitting:
                return fitting[-1]
            left_s = self._left_s()
            if together < len(self._queue) or together == self._settings.batch or left_s <= 0:
                return together
            await asyncio.sleep(min(left_s, 0.001))

    def _together(self) -> int:
        """Images at the front that one batch may hold."""
        count, first = 0, next(iter(self._queue), None)
        for one in islice(self._queue, self._settings.batch):
            if first is None or (one is not first and (one.kills or first.kills or one.what != first.what)):
                break
            count += 1
        return count

    def _left_s(self) -> float:
        """How long the first image may still wait for others."""
        first = next(iter(self._queue), None)
        return 0.0 if first is None else first.since_s + self._settings.delay_ms / 1e3 - time.monotonic()

    async def _answer(self, worker: Worker, batch: list[Waiting]) -> None:
        started_s = time.monotonic()
        try:
            answers = await self.pool.answer(worker, [one.data for one in batch], top=self._top, what=batch[0].what)
        except WorkerLostError:
            self._ask_again(batch)
            return
        ended_s = time.monotonic()
        went = Went(
            started_s=started_s,
            ended_s=ended_s,
            decode_s=worker.decode_s,
            network_s=worker.network_s,
            images=len(batch),
        )
        self._note(batch, went)
        description = self.pool.state.description or {}
        for one, answer in zip(batch, answers, strict=True):
            if one.is_wanted:
                one.went = went
                one.answer.set_result(answer)
                self._metrics.answered(answer, description)

    def _ask_again(self, batch: list[Waiting]) -> None:
        """Put the images of a dead worker back to the front, each to be asked alone; refuse the one that kills."""
        for one in reversed(batch):
            one.kills += 1
            if not one.is_wanted:
                continue
            if one.kills >= KILLS:
                self._metrics.crashed()
                one.answer.set_result({"code": CRASHES, "error": "the processes that should answer this image died"})
            else:
                self._queue[one] = None
                self._queue.move_to_end(one, last=False)
        if self._queue:
            self._arrived.set()

    def _note(self, batch: list[Waiting], went: Went) -> None:
        waited_s = [went.started_s - one.since_s for one in batch]
        busy_s = went.ended_s - went.started_s
        self._metrics.batch(waited_s, busy_s, went.decode_s, went.network_s)
        self._images_s.append(busy_s / len(batch))
