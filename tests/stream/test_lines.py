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
from sortal.serve.pool import Pool
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


def seen_calls(monkeypatch: pytest.MonkeyPatch, pool: Pool, name: str) -> list[str]:
    """Grows with each call of a method of the pool that has done all it does before it waits."""
    calls: list[str] = []
    method = getattr(pool, name)

    def called(*arguments: Any, **named: Any) -> Any:
        async def done() -> Any:
            calls.append(name)
            return await method(*arguments, **named)

        return done()

    monkeypatch.setattr(pool, name, called)
    return calls


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


def test_a_frame_waits_for_others_although_a_worker_is_free(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        taken = seen_calls(monkeypatch, sizes.current.pool, "free_worker")
        belt.put(RED)
        await _until(lambda: taken)
        assert len(belt.free_slots) == 6  # the worker is there, and the frame lies where it was
        belt.put(RED)

    line, _ = run_line([bundle], story, delay_ms=FOREVER, batch=2)
    assert line.counts.batches == 1


def test_a_frame_for_which_no_others_come_is_answered_alone(bundle: Path) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        belt.put(RED)
        await _until(lambda: decided)

    _, decided = run_line([bundle], story, delay_ms=20.0)
    assert [frame.state for frame in decided] == ["answered"]


def test_frames_of_a_worker_that_hangs_are_rejected_while_it_hangs(bundle: Path) -> None:
    deaths: list[int] = []

    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        (worker,) = workers()
        os.kill(worker, signal.SIGSTOP)
        for number in range(5):  # the line goes on sending
            belt.put(RED)
            await _until(lambda number=number: len(decided) > number)
            deaths.append(sizes.deaths)
        os.kill(worker, signal.SIGCONT)
        while decided[-1].answer is None:  # what it says about them now is too late
            count = len(decided)
            belt.put(GREEN)
            await _until(lambda count=count: len(decided) > count)

    _, decided = run_line([bundle], story, max_age_ms=200.0, hang_ms=600_000.0)
    assert [frame.reason for frame in decided[:5]] == ["late"] * 5
    assert all(frame.age_ms > 199.9 for frame in decided[:5])  # not before their time
    assert deaths == [0] * 5
    assert decided[-1].answer is not None
    assert decided[-1].answer["index"] == 1


def test_a_worker_that_hangs_is_killed_and_its_frame_asked_again(bundle: Path) -> None:
    hung: list[int] = []

    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        hung.extend(workers())
        os.kill(hung[0], signal.SIGSTOP)
        belt.put(GREEN)
        await _until(lambda: sizes.deaths == 1)
        assert decided == []

    _, decided = run_line([bundle], story, live=False, hang_ms=2000.0)
    assert [frame.answer and frame.answer["index"] for frame in decided] == [1]
    assert not Path(f"/proc/{hung[0]}").exists()


def test_a_worker_that_dies_costs_nothing_where_there_is_time(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        asked = seen_calls(monkeypatch, sizes.current.pool, "answer")
        (worker,) = workers()
        os.kill(worker, signal.SIGSTOP)
        for data in (RED, GREEN, BLUE):
            belt.put(data)
        await _until(lambda: asked)
        os.kill(worker, signal.SIGKILL)

    line, decided = run_line([bundle], story, live=False)
    assert [frame.answer and frame.answer["index"] for frame in decided] == [0, 1, 2]
    assert [frame.kills for frame in decided] == [1, 1, 1]
    assert line.counts.batches == 3  # each alone: one of them may be the one that kills


def test_a_frame_with_which_two_workers_died_is_rejected(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(belt: Belt, decided: list[Frame], sizes: Sizes) -> None:
        pool = sizes.current.pool
        asked = seen_calls(monkeypatch, pool, "answer")
        taken = await pool.free_worker()
        belt.put(RED)
        for number in range(2):
            (worker,) = pool.pids
            os.kill(worker, signal.SIGSTOP)
            pool.give_back(taken)
            await _until(lambda number=number: len(asked) > number)
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
