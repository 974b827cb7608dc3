"""The classifiers that answer a stream: one, or the same task at several input sizes, taken by measured time.

Each size has workers of its own that are ready all the time; `runtime.resolution` says which answers next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortal.core.errors import InputError, MachineError
from sortal.runtime.resolution import ResolutionController
from sortal.serve.pool import Pool
from sortal.stream.log import Told
from sortal.stream.settings import StreamSettings

_SHARE = 0.8
"""Of the time between frames that a frame may take at a worker, where nothing else is said."""
_USUAL_FPS = 30.0
_LOOK_S, _STARTS = 0.1, 2


@dataclass(frozen=True, kw_only=True)
class Size:
    """One classifier and its workers."""

    name: str
    """`128x128`; empty where there is one classifier only."""
    pool: Pool
    description: dict[str, Any]


class Sizes:
    """All of them, the smallest first."""

    def __init__(self, models: Sequence[Path], settings: StreamSettings, *, live: bool, log: Told):
        if len({path.resolve() for path in models}) < len(models):
            raise InputError("the same classifier twice", where="--smaller", received=", ".join(map(str, models)))
        self._settings, self._log = settings, log
        self._pools = [Pool(model, settings.for_workers(live=live)) for model in models]
        self._sizes: list[Size] = []
        self._controller: ResolutionController | None = None

    async def start(self) -> None:
        """Until every worker of every classifier is ready. Raises MachineError where that takes too long, InputError
        where they answer over different classes, or sizes are the same."""
        for pool in self._pools:
            pool.start()
        try:
            async with asyncio.timeout(self._settings.start_s):
                await asyncio.gather(*(_ready(pool) for pool in self._pools))
        except TimeoutError as error:
            raise MachineError(f"the classifier does not start: {self.trouble or 'not in time'}") from error
        told = [(pool, pool.state.description or {}) for pool in self._pools]
        told.sort(key=lambda one: _pixels(one[1]))
        if len({tuple(description["labels"]) for _, description in told}) > 1:
            raise InputError("the classifiers of the sizes answer over different classes", where="--smaller")
        several = len(told) > 1
        self._sizes = [
            Size(name=_name(description) if several else "", pool=pool, description=description)
            for pool, description in told
        ]
        if several:
            self._controller = ResolutionController([_pixels(one) for _, one in told], target_ms=self._target_ms)

    @property
    def current(self) -> Size:
        """What answers next."""
        return self._sizes[0 if self._controller is None else self._controller.current]

    @property
    def labels(self) -> list[str]:
        """The classes."""
        return list(self.current.description["labels"])

    @property
    def deaths(self) -> int:
        """Workers that died or were killed."""
        return sum(pool.state.deaths for pool in self._pools)

    @property
    def trouble(self) -> str:
        """Why workers cannot start now; empty where they can."""
        return next((pool.state.trouble for pool in self._pools if pool.state.trouble), "")

    def observe(self, size: Size, ms: float) -> None:
        """How long a frame took at a size; it says nothing about the current one where that is another."""
        if self._controller is None or size is not self.current:
            return
        before = size.name
        self._controller.observe(ms)
        if self.current.name != before:
            self._log({"event": "input size", "size": self.current.name, "before": before})

    async def stop(self) -> None:
        """End all workers."""
        await asyncio.gather(*(pool.stop() for pool in self._pools))

    @property
    def _target_ms(self) -> float:
        return self._settings.target_ms or 1e3 * _SHARE / (self._settings.fps or _USUAL_FPS)


async def _ready(pool: Pool) -> None:
    """Until all workers are. Raises MachineError where starting failed a few times: it would for ever."""
    waiting = asyncio.create_task(pool.wait_ready())
    try:
        while not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
            if pool.state.trouble and pool.state.starts > _STARTS:
                raise MachineError(f"the classifier does not start: {pool.state.trouble}", where=str(pool.model))
    finally:
        waiting.cancel()


def _pixels(description: dict[str, Any]) -> int:
    return int(description["input"]["height"]) * int(description["input"]["width"])


def _name(description: dict[str, Any]) -> str:
    return f"{description['input']['width']}x{description['input']['height']}"
