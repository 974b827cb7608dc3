"""How images that wait become batches, with a pool whose workers die of certain images."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from sortal.core.errors import DeadlineError, OverloadError
from sortal.serve.batcher import CRASHES, Batcher
from sortal.serve.metrics import Metrics
from sortal.serve.pool import PoolState, WorkerLostError
from sortal.serve.settings import ServeSettings


class Mortal:
    """A pool of one worker that answers with the length of an image, and dies of poison."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.state = PoolState(description={"labels": [str(size) for size in range(9)], "label_set": {"parents": None}})
        self._free: asyncio.Queue[SimpleNamespace] = asyncio.Queue()
        self._free.put_nowait(SimpleNamespace(decode_s=0.02, network_s=0.01))

    async def free_worker(self) -> SimpleNamespace:
        return await self._free.get()

    def give_back(self, worker: SimpleNamespace) -> None:
        self._free.put_nowait(worker)

    async def answer(
        self, worker: SimpleNamespace, images: Sequence[bytes], *, top: int, what: str
    ) -> list[dict[str, Any]]:
        self.batches.append(list(images))
        await self.gate.wait()
        self._free.put_nowait(worker)
        if any(image.startswith(b"poison") for image in images):
            raise WorkerLostError("the worker died")
        return [{"index": len(image), "probability": 0.5, "abstained": False} for image in images]


def made(**settings: Any) -> tuple[Mortal, Batcher]:
    pool = Mortal()
    metrics = Metrics().of("lengths")
    batcher = Batcher(pool, ServeSettings(workers=1, **settings), metrics)  # type: ignore[arg-type]
    batcher.start()
    return pool, batcher


def test_images_that_wait_are_answered_together_and_in_order() -> None:
    async def story() -> None:
        pool, batcher = made(batch=3)
        pool.gate.clear()
        asked = [asyncio.create_task(batcher.submit([b"x" * number])) for number in range(1, 8)]
        await asyncio.sleep(0.05)
        pool.gate.set()
        answers = await asyncio.gather(*asked)
        assert [one["index"] for (one,) in answers] == list(range(1, 8))
        assert [len(batch) for batch in pool.batches] == [3, 3, 1]
        await batcher.drain()

    asyncio.run(story())


def test_the_image_that_kills_is_refused_and_its_neighbors_are_answered() -> None:
    async def story() -> None:
        pool, batcher = made(batch=8)
        answers = await batcher.submit([b"a", b"bb", b"poison", b"dddd"])
        assert [one.get("index") for one in answers] == [1, 2, None, 4]
        assert answers[2]["code"] == CRASHES
        deadly = [batch for batch in pool.batches if b"poison" in batch]
        assert [len(batch) for batch in deadly] == [4, 1]
        await batcher.drain()

    asyncio.run(story())


def test_what_nobody_waits_for_is_not_asked() -> None:
    async def story() -> None:
        pool, batcher = made(batch=1, answer_s=0.05)
        pool.gate.clear()
        first = asyncio.create_task(batcher.submit([b"first"]))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineError):
            await batcher.submit([b"late"])
        with pytest.raises(DeadlineError):
            await first
        pool.gate.set()
        await batcher.drain()
        assert pool.batches == [[b"first"]]

    asyncio.run(story())


def test_a_full_queue_takes_none_of_a_request() -> None:
    async def story() -> None:
        pool, batcher = made(batch=1, queue=3)
        pool.gate.clear()
        asked = [asyncio.create_task(batcher.submit([b"x"])) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(OverloadError) as refused:
            await batcher.submit([b"y"] * 3)
        assert refused.value.retry_after_s >= 0.1
        pool.gate.set()
        assert len(await asyncio.gather(*asked)) == 2
        await batcher.drain()
        assert pool.batches == [[b"x"], [b"x"]]

    asyncio.run(story())


def test_what_nobody_waits_for_any_more_takes_no_room_and_holds_up_no_end() -> None:
    """The pool has no worker, and never will."""

    async def story() -> None:
        pool, batcher = made(batch=1, queue=3, answer_s=0.05)
        await pool.free_worker()
        for _ in range(2):
            with pytest.raises(DeadlineError):
                await batcher.submit([b"x"] * 2)
            assert batcher.length <= 3
        async with asyncio.timeout(10):
            await batcher.drain()

    asyncio.run(story())


def test_an_end_that_is_broken_off_hands_out_no_more_batches() -> None:
    async def story() -> None:
        pool, batcher = made(batch=1)
        worker = await pool.free_worker()
        waiting = asyncio.create_task(batcher.submit([b"x"]))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await batcher.drain()
        pool.give_back(worker)
        await asyncio.sleep(0.05)
        assert pool.batches == []
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(story())
