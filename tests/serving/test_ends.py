"""The end of workers and of a classifier that leaves: it comes, and nobody is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sortal.serve.explaining.explainer import Explainer
from sortal.serve.metrics import Metrics
from sortal.serve.pool import Pool, WorkerLostError
from sortal.serve.service import Service
from sortal.serve.settings import ServeSettings

QUICK = ServeSettings(workers=1, drain_s=0.2, answer_s=60, warm=False)
NOWHERE = Path("nowhere")


def test_workers_that_are_ended_at_work_are_not_replaced(bundles: tuple[Path, Path]) -> None:
    async def story() -> None:
        pool = Pool(bundles[0], QUICK)
        pool.start()
        async with asyncio.timeout(60):
            await pool.wait_ready()
        worker = await pool.free_worker()
        os.kill(worker.process.pid, signal.SIGSTOP)
        asked = asyncio.create_task(pool.answer(worker, [b"x"], top=1))
        await asyncio.sleep(0.05)
        await pool.stop()
        with pytest.raises(WorkerLostError):
            await asked
        await asyncio.sleep(0.05)
        assert (pool.state.starts, pool.state.ready, pool.state.deaths, pool.pids) == (1, 0, 0, [])

    asyncio.run(story())


def test_a_classifier_that_leaves_is_waited_for_no_longer_than_the_settings_say() -> None:
    """It has taken an image, and has no worker for it."""

    async def story() -> None:
        metrics = Metrics().of("m")
        service, other = (Service(NOWHERE, QUICK, metrics, trouble="nothing is live") for _ in range(2))
        service._batcher.pool.state.description = {"labels": []}
        service.start()
        other.start()
        waiting = asyncio.create_task(service.answer([b"x"]))
        await asyncio.sleep(0)
        service.adopt(other)
        async with asyncio.timeout(10):
            await service.stop()
        service.give_up()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(story())


def test_an_explanation_that_begins_when_the_process_rests_is_given(
    bundles: tuple[Path, Path], colors: dict[str, bytes]
) -> None:
    async def story() -> None:
        explainer = Explainer(Service(bundles[0], QUICK, Metrics().of("m")))
        try:
            await explainer.explain(colors["red"], None, pictures=False)
            explainer._rest()  # as after a minute
            frame = await explainer.explain(colors["red"], None, pictures=False)
        finally:
            await explainer.stop()
        assert frame.header["label"] == "red"

    asyncio.run(story())
