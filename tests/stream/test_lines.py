"""The line with real workers: every frame has one result, in order and in time, whatever happens to the workers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cameras import BLUE, GREEN, RED, jpeg
from streaming import command_line

from colors import color_bundle
from sortal.core.errors import InputError, MachineError
from sortal.stream.frame import Frame
from sortal.stream.line import Line
from sortal.stream.memory import FrameMemory, new_memory
from sortal.stream.settings import StreamSettings
from sortal.stream.sizes import Sizes

FOREVER = 60_000.0


class Belt:
    """Puts image files into memory as a capturing process would."""

    def __init__(self, memory: FrameMemory):
        self._memory = memory
        self.free_slots = list(range(memory.slots))
        self.line: Line | None = None

    def put(self, data: bytes, *, age_s: float = 0.0) -> None:
        assert self.line is not None
        slot = self.free_slots.pop(0)
        self._memory.slot(slot)[: len(data)] = data
        self.line.take(
            {"slot": slot, "size": len(data), "name": None, "missed": 0}
            | {"time_s": time.time(), "taken_s": time.monotonic() - age_s}
        )


Story = Callable[[Belt, list[Frame], Sizes], Awaitable[None]]


def run_line(models: list[Path], story: Story, *, live: bool = True, **limits: Any) -> tuple[Line, list[Frame]]:
    """A line with real workers, and what `story` does with it."""
    settings = StreamSettings(**{"max_age_ms": FOREVER, "frame_mb": 0.1} | limits)
    decided: list[Frame] = []

    async def run() -> Line:
        sizes = Sizes(models, settings, live=live, log=lambda _: None)
        memory = new_memory(settings.slots, 100_000)
        belt = Belt(memory)
        try:
            await sizes.start()
            line = belt.line = Line(
                sizes, memory, settings, live=live, top=3, free=belt.free_slots.append, decided=decided.append
            )
            line.start()
            async with asyncio.timeout(120):
                await story(belt, decided, sizes)
                await line.drain()
            await line.stop()
            return line
        finally:
            await sizes.stop()
            memory.close()

    line = asyncio.run(run())
    counts = line.counts
    assert counts.received == sum(counts.states.values()) == len(decided)
    assert counts.states["rejected"] == sum(counts.reasons.values())
    assert [frame.number for frame in decided] == list(range(len(decided)))
    return line, decided


def workers() -> list[int]:
    """Of this process."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in listed if "sortal.serve.worker" in command_line(int(pid))]


async def _until(found: Callable[[], Any]) -> None:
    while not found():
        await asyncio.sleep(0.005)


def test_frames_are_answered_in_order_and_damaged_ones_rejected(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        for data in (RED, b"\xff\xd8 nothing", GREEN, BLUE[: len(BLUE) // 2], b"", BLUE):
            belt.put(data)
            await asyncio.sleep(0)
            await _until(lambda: len(belt.free_slots) >= 4)

    _, decided = run_line([bundle], story, live=False)
    assert [frame.answer["index"] if frame.answer else frame.reason for frame in decided] == [
        0, "not_an_image", 1, "truncated", "empty", 2,
    ]  # fmt: skip
    assert {frame.state for frame in decided} == {"answered", "rejected"}


def test_the_oldest_waiting_frames_make_room_and_are_told(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        pool = sizes.current.pool
        taken = await pool.free_worker()  # nobody is there to answer
        for _ in range(20):
            belt.put(RED)
        assert len(belt.free_slots) == 3  # memory is bounded: what is dropped gives its slot back
        pool.give_back(taken)

    line, decided = run_line([bundle], story, buffer=4)
    assert [frame.reason for frame in decided] == ["dropped"] * 16 + [""] * 4
    assert line.counts.reasons == {"dropped": 16}


def test_waiting_frames_are_answered_together_up_to_the_limit(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        belt.put(RED)
        await _until(lambda: len(decided) == 1)  # alone: a free worker waits for nobody
        pool = sizes.current.pool
        taken = await pool.free_worker()
        for _ in range(7):
            belt.put(GREEN)
        pool.give_back(taken)

    line, decided = run_line([bundle], story, buffer=8, batch=3)
    assert line.counts.batches == 1 + 3
    assert len(decided) == 8


def test_a_frame_can_wait_for_others_as_long_as_is_said(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        belt.put(RED)
        await asyncio.sleep(0.05)
        belt.put(RED)

    line, _ = run_line([bundle], story, delay_ms=500.0)
    assert line.counts.batches == 1


def test_a_hanging_worker_costs_its_frames_which_are_rejected_on_time(bundle: Path) -> None:
    late: list[float] = []
    hung: list[int] = []

    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        belt.put(RED)
        await _until(lambda: decided)
        (worker,) = workers()
        hung.append(worker)
        os.kill(worker, signal.SIGSTOP)
        for _ in range(12):  # the line goes on sending while the worker hangs
            belt.put(RED)
            await asyncio.sleep(0.1)
        await _until(lambda: sizes.deaths == 1)
        await _until(lambda: sizes.current.pool.is_ready)
        before = len(decided)
        belt.put(GREEN)
        await _until(lambda: len(decided) > before)
        late.extend(frame.age_ms for frame in decided if frame.reason == "late")

    line, decided = run_line([bundle], story, max_age_ms=400.0, hang_ms=5000.0)
    assert late
    assert min(late) >= 400.0
    assert max(late) < 5000.0  # before the worker is given up
    assert decided[-1].answer is not None
    assert decided[-1].answer["index"] == 1
    assert not Path(f"/proc/{hung[0]}").exists()
    assert set(line.counts.reasons) <= {"late", "dropped"}


def test_a_worker_that_dies_costs_nothing_where_there_is_time(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        (worker,) = workers()
        os.kill(worker, signal.SIGSTOP)
        for data in (RED, GREEN, BLUE):
            belt.put(data)
        await asyncio.sleep(0.1)
        os.kill(worker, signal.SIGKILL)

    _, decided = run_line([bundle], story, live=False)
    assert [frame.answer and frame.answer["index"] for frame in decided] == [0, 1, 2]


def test_a_frame_with_which_two_workers_died_is_rejected(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        pool = sizes.current.pool
        taken = await pool.free_worker()
        belt.put(RED)
        for _ in range(2):
            (worker,) = pool.pids
            os.kill(worker, signal.SIGSTOP)
            pool.give_back(taken)
            await asyncio.sleep(0.2)  # the line has asked it
            waiting = asyncio.create_task(pool.free_worker())
            await asyncio.sleep(0)
            os.kill(worker, signal.SIGKILL)
            taken = await waiting  # the next one, before the line has it
        pool.give_back(taken)
        belt.put(GREEN)

    _, decided = run_line([bundle], story, live=False)
    assert [frame.reason for frame in decided] == ["crashes", ""]


def test_an_answer_that_is_no_finite_number_is_a_rejected_frame(tmp_path: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        belt.put(RED)
        belt.put(jpeg((90, 10, 10)))

    _, decided = run_line([color_bundle(tmp_path / "large", factor=1e38)], story)  # overflows where an image is bright
    assert [frame.reason for frame in decided] == ["not_finite", ""]


def test_the_end_comes_also_where_results_could_not_be_told(bundle: Path) -> None:
    told: list[int] = []

    def tell(frame: Frame) -> None:
        told.append(frame.number)
        if frame.number == 0:
            raise ValueError("no result")

    async def run() -> None:
        settings = StreamSettings(max_age_ms=FOREVER, frame_mb=0.1)
        sizes = Sizes([bundle], settings, live=False, log=lambda _: None)
        memory = new_memory(settings.slots, 100_000)
        belt = Belt(memory)
        try:
            await sizes.start()
            line = belt.line = Line(
                sizes, memory, settings, live=False, top=3, free=belt.free_slots.append, decided=tell
            )
            taken = await sizes.current.pool.free_worker()
            line.start()
            belt.put(RED)
            line.skip({"reason": "empty", "name": None, "time_s": time.time(), "taken_s": time.monotonic()})
            sizes.current.pool.give_back(taken)
            await _until(lambda: told)
            await line.stop()
        finally:
            await sizes.stop()
            memory.close()

    asyncio.run(run())
    assert told == [0, 1]


def test_times_count_for_the_size_that_took_them(bundle: Path, tmp_path: Path) -> None:
    large = color_bundle(tmp_path / "larger", size=32)

    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        small = sizes.current
        for _ in range(100):
            if sizes.current is not small:
                break
            sizes.observe(small, 1.0)  # there is time
        large = sizes.current
        assert (small.name, large.name) == ("16x16", "32x32")
        for _ in range(100):
            sizes.observe(small, 1000.0)  # of batches that were under way
        assert sizes.current is large

    run_line([bundle, large], story, target_ms=100.0)


def test_an_old_frame_is_never_answered_as_if_it_were_new(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        belt.put(RED, age_s=5.0)
        belt.put(GREEN)

    _, decided = run_line([bundle], story, max_age_ms=2000.0)
    assert [frame.reason for frame in decided] == ["late", ""]


def test_the_same_size_twice_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = color_bundle(tmp_path / "same")
    with pytest.raises(InputError, match="ascend"):
        run_line([bundle, other], _nothing)
    with pytest.raises(InputError, match="twice"):
        run_line([bundle, bundle], _nothing)


async def _nothing(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
    pass


def test_workers_that_cannot_start_are_an_error_and_not_a_wait(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no such model"):
        run_line([tmp_path / "nothing"], _nothing)
