"""How images that wait become batches, with a pool whose workers die of certain images."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from sortal.core.errors import DeadlineError, InputError, OverloadError
from sortal.serve import batcher as batching
from sortal.serve.batcher import CRASHES, Batcher
from sortal.serve.frames import FILES, PIXELS
from sortal.serve.listed import read_models
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


class Picture(bytearray):
    """Bytes that can be watched."""


def test_an_image_leaves_the_queue_and_the_memory_at_its_deadline() -> None:
    """The only worker is busy all the time; one request ends by its deadline, one because its client goes away."""

    async def story() -> None:
        pool, batcher = made(batch=4, queue=100)
        worker = await pool.free_worker()
        patient = [asyncio.create_task(batcher.submit([b"x" * size])) for size in (1, 2)]
        await asyncio.sleep(0)
        seen = list[weakref.ref[Picture]]()

        async def ask(within_s: float) -> None:
            pictures = [Picture(b"abc"), Picture(b"abc")]
            seen.extend(weakref.ref(one) for one in pictures)
            await batcher.submit(pictures, within_s=within_s)  # type: ignore[arg-type]

        late, gone = asyncio.create_task(ask(0.05)), asyncio.create_task(ask(60))
        await asyncio.sleep(0)
        patient.append(asyncio.create_task(batcher.submit([b"xxx"])))
        await asyncio.sleep(0)
        assert batcher.length == 7
        gone.cancel()
        ends = await asyncio.gather(late, gone, return_exceptions=True)
        assert [type(end) for end in ends] == [DeadlineError, asyncio.CancelledError]
        assert batcher.length == 3
        del late, gone, ends
        await asyncio.sleep(0)  # the loop itself holds what woke this story until it goes on
        gc.collect()
        assert [one() for one in seen] == [None] * 4
        pool.give_back(worker)
        assert [one["index"] for (one,) in await asyncio.gather(*patient)] == [1, 2, 3]
        assert pool.batches == [[b"x", b"xx", b"xxx"]]
        await batcher.drain()

    asyncio.run(story())


LONG_MS = 3_600_000.0
"""Nobody in a test waits so long."""


@pytest.mark.parametrize(
    ("waiting", "preferred", "batch", "sizes"),
    [
        ([FILES] * 7, (), 8, [7]),
        ([FILES] * 7, (2, 4), 8, [4, 2, 1]),
        ([FILES] * 20, (3, 5), 8, [5, 5, 5, 5]),
        ([FILES] * 20, (3, 8), 8, [8, 8, 3, 1]),
        ([FILES] * 3, (4,), 8, [3]),
        ([FILES] * 9, (8,), 8, [8, 1]),
        ([FILES] * 3 + [PIXELS] * 4 + [FILES], (2,), 8, [2, 1, 2, 2, 1]),
        ([FILES] * 9, (1,), 8, [1] * 9),
    ],
)
def test_the_largest_preferred_size_that_is_there_goes(
    waiting: list[str], preferred: tuple[int, ...], batch: int, sizes: list[int]
) -> None:
    async def story() -> None:
        pool, batcher = made(batch=batch, preferred=preferred)
        worker = await pool.free_worker()
        asked = [
            asyncio.create_task(batcher.submit([b"x" * (place % 8 + 1)], what=what))
            for place, what in enumerate(waiting)
        ]
        await asyncio.sleep(0)
        pool.give_back(worker)
        answers = await asyncio.gather(*asked)
        assert [one["index"] for (one,) in answers] == [place % 8 + 1 for place in range(len(waiting))]
        assert [len(one) for one in pool.batches] == sizes
        await batcher.drain()

    asyncio.run(story())


def test_less_than_a_preferred_size_waits_for_others_and_no_longer_than_the_delay() -> None:
    async def story() -> None:
        pool, batcher = made(batch=8, preferred=(2, 4), delay_ms=LONG_MS)
        first = asyncio.create_task(batcher.submit([b"a"] * 5))
        await asyncio.sleep(0.05)
        assert [len(one) for one in pool.batches] == [4]  # the fifth waits although the worker is free
        second = asyncio.create_task(batcher.submit([b"b"] * 2))
        await asyncio.gather(first, asyncio.sleep(0.05))
        assert pool.batches[1:] == [[b"a", b"b"]]
        third = asyncio.create_task(batcher.submit([b"c"]))
        await asyncio.gather(second, third)
        assert pool.batches[2:] == [[b"b", b"c"]]
        await batcher.drain()

        pool, batcher = made(batch=8, preferred=(2, 4), delay_ms=20)
        assert len(await batcher.submit([b"a"] * 7)) == 7
        assert [len(one) for one in pool.batches] == [4, 2, 1]
        await batcher.drain()

    asyncio.run(story())


def test_what_waits_for_others_and_is_given_up_holds_no_worker() -> None:
    async def story() -> None:
        pool, batcher = made(batch=8, preferred=(4,), delay_ms=LONG_MS)
        with pytest.raises(DeadlineError):
            await batcher.submit([b"a"], within_s=0.05)
        assert batcher.length == 0
        assert len(await batcher.submit([b"b"] * 4)) == 4
        assert pool.batches == [[b"b"] * 4]
        await batcher.drain()

    asyncio.run(story())


@pytest.mark.parametrize(("sizes", "said"), [([8, 4], "ascending"), ([4, 4], "ascending"), ([9], "batch, which is 8")])
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, sizes: list[int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ServeSettings(batch=8, preferred=sizes)  # type: ignore[arg-type]
    file = tmp_path / "models.yaml"
    file.write_text(f"models:\n  a: {{path: ., batch: 8, preferred: {sizes}}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=said) as refused:
        read_models(file, ServeSettings())
    assert "such as preferred: []" in str(refused.value)
    assert "Value error" not in str(refused.value)


def test_sizes_are_the_models_own_where_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        ServeSettings(preferred=(0, 4))
    file = tmp_path / "models.yaml"
    file.write_text("models:\n  a: {path: ., preferred: [2, 16]}\n  b: .\n", encoding="utf-8")
    one, two = read_models(file, ServeSettings(preferred=(4, 8)))
    assert (one.settings.preferred, two.settings.preferred) == ((2, 16), (4, 8))
    file.write_text("models:\n  a: {path: ., batch: 4}\n", encoding="utf-8")
    with pytest.raises(InputError, match="batch, which is 4"):
        read_models(file, ServeSettings(preferred=(4, 8)))


def test_one_batch_that_stood_still_refuses_nobody_and_many_slow_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that was paused, or a worker that waited for a disk, is as quick as before when it goes on."""
    now, step = {"s": 1000.0}, {"s": 0.01}
    monkeypatch.setattr(batching, "time", SimpleNamespace(monotonic=lambda: now["s"]))

    async def ask(pool: Mortal, batcher: Batcher, images: int) -> list[Any]:
        """So many requests while one is answered, which takes a step."""
        pool.gate.clear()
        before, first = len(pool.batches), asyncio.create_task(batcher.submit([b"a"]))
        while len(pool.batches) == before:
            await asyncio.sleep(0)
        others = [asyncio.create_task(batcher.submit([b"b"])) for _ in range(images)]
        await asyncio.sleep(0)
        now["s"] += step["s"]
        pool.gate.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    async def story() -> None:
        pool, batcher = made(answer_s=1.0, batch=1)
        for _ in range(20):
            await ask(pool, batcher, 0)
        step["s"] = 60.0
        await ask(pool, batcher, 0)
        step["s"] = 0.01
        assert not [one for one in await ask(pool, batcher, 5) if isinstance(one, Exception)]

        step["s"] = 0.5
        for _ in range(10):
            await ask(pool, batcher, 0)
        refused = [one for one in await ask(pool, batcher, 5) if isinstance(one, OverloadError)]
        assert len(refused) == 3  # two fit into a second
        assert "too late" in str(refused[0])
        await batcher.drain()

    asyncio.run(story())
