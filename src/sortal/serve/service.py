"""The classifier that a server answers with: one pool and one queue, which can be exchanged while requests come in.

Exchanging starts the new one beside the old one, waits until all its workers are ready, turns requests to it, and ends
the old one when it has answered what it had taken. Where the new one does not start, the old one stays.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from sortal.core.errors import MachineError
from sortal.serve.batcher import Batcher, Went
from sortal.serve.frames import FILES
from sortal.serve.pool import Pool
from sortal.serve.settings import ServeSettings
from sortal.serve.telemetry.model_metrics import ModelMetrics

TOP = 20
"""Classes that workers tell of an answer; a request sees as many of them as it asks for."""
_TRIES = 4
"""Starts of each worker of a new classifier before it is given up."""
_LOOK_S = 0.1
_NICE = 10
"""How far workers that answer nobody stand back behind those that do, see nice(2)."""


class Service:
    """What requests are handed to. With `aside`, workers stand back behind all others; with `trouble`, which says why,
    there is nothing to start yet."""

    def __init__(
        self, model: Path, settings: ServeSettings, metrics: ModelMetrics, *, aside: bool = False, trouble: str = ""
    ):
        self.settings, self._metrics = settings, metrics
        self._nice = _NICE if aside else 0
        self._trouble = trouble
        self._has_model = not trouble
        self._batcher = self._made(model)
        self._deaths = self._starts = 0
        self._leaving: list[Batcher] = []
        self._endings: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to start workers; returns at once."""
        if self._has_model:
            self._batcher.pool.start()
        self._batcher.start()

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered now."""
        return self._batcher.pool.is_ready

    @property
    def description(self) -> dict[str, Any]:
        """Of the classifier; empty until a worker was ready."""
        return self._batcher.pool.state.description or {}

    @property
    def model(self) -> Path:
        """Where the classifier is that answers now."""
        return self._batcher.pool.model

    @property
    def in_short(self) -> dict[str, Any]:
        """The description without the classes, of which there may be thousands."""
        return {key: value for key, value in self.description.items() if key not in ("labels", "label_set")}

    @property
    def trouble(self) -> str:
        """Why workers, or those of the classifier that should take over, cannot start; empty where they can."""
        return self._batcher.pool.state.trouble or self._trouble

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._batcher.length

    @property
    def workers(self) -> int:
        """Workers that can answer now."""
        return self._batcher.pool.state.ready

    @property
    def deaths(self) -> int:
        """Workers that died since the server began."""
        return self._deaths + sum(one.pool.state.deaths for one in (self._batcher, *self._leaving))

    @property
    def starts(self) -> int:
        """Workers that were started since the server began."""
        return self._starts + sum(one.pool.state.starts for one in (self._batcher, *self._leaving))

    @property
    def busy(self) -> int:
        """Workers that have a batch now."""
        return self._batcher.busy

    @property
    def worker_pids(self) -> list[int]:
        """Processes of all workers, those of a classifier that is leaving included."""
        return [pid for one in (self._batcher, *self._leaving) for pid in one.pool.pids]

    def refuse_overload(self) -> None:
        """Raises OverloadError where not one image more would be taken."""
        self._batcher.refuse_overload()

    async def answer(
        self,
        images: list[bytes],
        *,
        what: str = FILES,
        within_s: float | None = None,
        went: list[Went] | None = None,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """(description of the classifier, an answer for each image). Raises as `Batcher.submit`, and MachineError where
        no worker was ever ready. `what` the images are, see `frames`; their batches are added to `went`."""
        batcher = self._batcher
        if batcher.pool.state.description is None:
            raise MachineError("the classifier is not ready yet", hint="ask /readyz")
        answers = await batcher.submit(images, what=what, within_s=within_s, went=went)
        return batcher.pool.state.description, answers

    async def exchange(self, model: Path) -> None:
        """Answer with the classifier at `model` from now on. Raises MachineError where its workers do not start in
        time, or fail to again and again; the old one answers then as before."""
        fresh = self._made(model)
        fresh.pool.start()
        try:
            async with asyncio.timeout(self.settings.start_s):
                await _until_ready(fresh.pool, _TRIES * self.settings.workers)
        except TimeoutError as error:
            self._trouble = f"the new classifier does not start: {fresh.pool.state.trouble or 'not in time'}"
            await fresh.pool.stop()
            raise MachineError(self._trouble, where=str(model)) from error
        except asyncio.CancelledError:
            await fresh.pool.stop()
            raise
        fresh.start()
        self._turn_to(fresh)

    def adopt(self, other: Service) -> None:
        """Answer with the workers of `other` from now on, which is ready and has none afterwards."""
        fresh, other._batcher = other._batcher, other._made(other.model)
        fresh.count_as(self._metrics)
        self._turn_to(fresh)

    async def stop(self) -> None:
        """Answer what was taken, for `drain_s` at most, and end all workers, those of classifiers that leave too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await asyncio.gather(self._batcher.drain(), *self._endings, return_exceptions=True)
        await asyncio.gather(*(one.pool.stop() for one in (self._batcher, *self._leaving)))

    def give_up(self) -> None:
        """Wait for no answer any more; `stop` is quick then."""
        for batcher in (self._batcher, *self._leaving):
            batcher.give_up()

    def stay(self) -> None:
        """Nothing shall take over any more: what could not is forgotten."""
        self._trouble = ""

    def _turn_to(self, fresh: Batcher) -> None:
        old, self._batcher = self._batcher, fresh
        self._trouble = ""
        self._leaving.append(old)
        ending = asyncio.create_task(self._end(old))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end(self, old: Batcher) -> None:
        await old.drain()
        await old.pool.stop()
        self._leaving.remove(old)
        self._deaths += old.pool.state.deaths
        self._starts += old.pool.state.starts

    def _made(self, model: Path) -> Batcher:
        return Batcher(Pool(model, self.settings, nice=self._nice), self.settings, self._metrics, top=TOP)


async def _until_ready(pool: Pool, starts: int) -> None:
    """Until every worker was ready. Raises TimeoutError where so many were started, and the last one could not."""
    ready = asyncio.create_task(pool.wait_ready())
    try:
        while not ready.done():
            if pool.state.trouble and pool.state.starts > starts:
                raise TimeoutError
            await asyncio.wait([ready], timeout=_LOOK_S)
    finally:
        ready.cancel()
