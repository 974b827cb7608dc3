"""The worker processes of one classifier: started, asked, watched, killed when they hang, replaced when they die.

A batch whose worker dies is asked again image by image; an image that has been there when two workers died is refused,
whoever sent it. A worker that cannot start is tried again after a pause that doubles; what it said is kept for people.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.errors import InternalError, MachineError, SortalError
from sortal.serve.frames import FILES, Frame, pack, read_frame
from sortal.serve.memory import BatchMemory, create_memory
from sortal.serve.settings import ServeSettings

Answer = dict[str, Any]

KILLS = 2
"""Workers that may die with an image before it is refused."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_GOLDEN_GAP = 1e-3
"""Of logits of the made-up image: workers of one bundle that differ by more are not the same classifier."""


class WorkerLostError(MachineError):
    """The worker died or was killed before it answered."""


class Worker:
    """One process, the socket to it, and the memory that is shared with it where there is such."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        memory: BatchMemory | None = None,
    ):
        self.process, self._reader, self._writer, self._memory = process, reader, writer, memory
        self._asked = 0
        self.decode_s = self.network_s = 0.0
        """How long the last batch took it: reading and preparing the images, and the network."""

    async def hear(self, limit_s: float) -> Frame:
        """The next frame. Raises WorkerLostError where there is none in time; the process is dead then."""
        try:
            async with asyncio.timeout(limit_s):
                return await read_frame(self._reader)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
            kind = "did not answer in time" if isinstance(error, TimeoutError) else "died"
            await self.end()
            raise WorkerLostError(f"the worker {kind}", received=f"exit code {self.process.returncode}") from error
        except asyncio.CancelledError:
            await self.end()
            raise

    async def ask(self, images: Sequence[bytes], *, what: str, top: int, limit_s: float) -> list[Answer]:
        """Answers to some images, each with the bytes of its probabilities (C,) float32. Raises WorkerLostError."""
        self._asked += 1
        frame = await self.exchange({"id": self._asked, "top": top, "what": what}, images, limit_s=limit_s)
        answers = frame.header.get("answers")
        told = len(answers) if isinstance(answers, list) else -1
        if frame.header.get("id") != self._asked or not told == len(images) == len(frame.blobs):
            await self.end()
            raise WorkerLostError("the worker answered something else")
        self.decode_s, self.network_s = frame.header["decode_s"], frame.header["network_s"]
        return [{**answer, "probabilities": row} for answer, row in zip(answers or (), frame.blobs, strict=True)]

    async def exchange(self, header: dict[str, Any], blobs: Sequence[bytes], *, limit_s: float) -> Frame:
        """Send a frame and hear the next one. Raises WorkerLostError; the process is dead then."""
        sizes = self._memory.put(blobs) if self._memory is not None and not self._writer.is_closing() else None
        message = pack(header, blobs) if sizes is None else pack({**header, "laid": sizes})
        try:
            self._writer.writelines(message)
        except (ConnectionError, RuntimeError) as error:
            await self.end()
            raise WorkerLostError("the worker died") from error
        return await self.hear(limit_s)

    async def end(self) -> None:
        """Kill the process and wait until it is gone."""
        self._writer.close()
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        if self._memory is not None:
            self._memory.close()


async def begin(module: str, asked: dict[str, Any]) -> Worker:
    """A new process `python -m module SETTINGS` that has one end of a socket, `channel`, and where there is such the
    `memory` that is shared with it; it has said nothing yet."""
    ours, theirs = socket.socketpair()
    memory, descriptor = create_memory() or (None, None)
    given = {"channel": theirs.fileno()} | ({} if descriptor is None else {"memory": descriptor})
    try:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                json.dumps({**asked, **given}),
                pass_fds=list(given.values()),
                stdin=asyncio.subprocess.DEVNULL,
            )
        except BaseException:
            writer.close()
            raise
    finally:
        theirs.close()
        if descriptor is not None:
            os.close(descriptor)
    return Worker(process, reader, writer, memory)  # nothing is waited for behind the process: it has always an owner


@dataclass(kw_only=True)
class PoolState:
    """What is known about the workers of one classifier."""

    description: dict[str, Any] | None = None
    """Of the classifier; None until a worker was ready."""
    ready: int = 0
    starts: int = 0
    deaths: int = 0
    trouble: str = ""
    """Why the last worker could not start; empty once one could."""
    golden: list[float] = field(default_factory=list)


class Pool:
    """`workers` processes that answer for the classifier at `model`."""

    def __init__(self, model: Path, settings: ServeSettings, *, nice: int = 0):
        self.model, self._nice = model, nice
        self.state = PoolState()
        self._settings = settings
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive: set[Worker] = set()
        self._ready = asyncio.Event()
        self._is_stopped = False

    def start(self) -> None:
        """Begin to start all workers; returns at once."""
        for _ in range(self._settings.workers):
            self._spawn()

    async def wait_ready(self) -> None:
        """Until every worker is ready for the first time."""
        await self._ready.wait()

    @property
    def is_ready(self) -> bool:
        """Whether at least one worker can answer now."""
        return self.state.ready > 0

    @property
    def pids(self) -> list[int]:
        """Of the workers that are alive."""
        return [worker.process.pid for worker in self._alive]

    async def free_worker(self) -> Worker:
        """A worker that has nothing to do, which the caller has to give back by `answer`."""
        return await self._free.get()

    async def answer(self, worker: Worker, images: Sequence[bytes], *, top: int, what: str = FILES) -> list[Answer]:
        """Answers of a worker taken from `free_worker`. Raises WorkerLostError; another one is started then."""
        try:
            answers = await worker.ask(images, what=what, top=top, limit_s=self._settings.hang_s)
        except (WorkerLostError, asyncio.CancelledError):
            self._lost(worker)
            raise
        self._free.put_nowait(worker)
        return answers

    def give_back(self, worker: Worker) -> None:
        """Return a worker that was taken and not asked."""
        self._free.put_nowait(worker)

    async def stop(self) -> None:
        """End all workers, also those that are at work; their batches are lost."""
        self._is_stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in list(self._alive)))
        self._alive.clear()
        self.state.ready = 0

    def _lost(self, worker: Worker) -> None:
        """Start another one in place of a worker that died; none of those that `stop` ended."""
        if self._is_stopped:
            return
        self._alive.discard(worker)
        self.state.ready -= 1
        self.state.deaths += 1
        self._spawn()

    def _spawn(self) -> None:
        task = asyncio.create_task(self._start_one())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_one(self) -> None:
        """Start a worker, again and again until one is ready."""
        pause_s = _FIRST_PAUSE_S
        while True:
            self.state.starts += 1
            try:
                worker = await self._started()
            except SortalError as error:
                self.state.trouble = str(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            self._alive.add(worker)
            self.state.ready += 1
            self.state.trouble = ""
            self._free.put_nowait(worker)
            if self.state.ready >= self._settings.workers:
                self._ready.set()
            self._watch(worker)
            return

    async def _started(self) -> Worker:
        asked = {
            "model": str(self.model),
            "engine": self._settings.engine,
            "threads": self._settings.threads,
            "batch": self._settings.batch,
            "warm": self._settings.warm,
            "memory_mb": self._settings.memory_mb,
            "nice": self._nice,
        }
        worker = await begin("sortal.serve.worker", asked)
        header = (await worker.hear(self._settings.start_s)).header
        if header.get("kind") != "ready":
            await worker.end()
            raise MachineError(f"a worker could not start: {header.get('what', 'unknown reason')}")
        await self._check_golden(worker, header)
        return worker

    async def _check_golden(self, worker: Worker, header: dict[str, Any]) -> None:
        """A worker has to answer the made-up image as the first one did, and with finite numbers."""
        found = np.asarray(header.pop("golden"), np.float64)
        first = np.asarray(self.state.golden or found, np.float64)
        if not np.isfinite(found).all() or found.shape != first.shape or np.abs(found - first).max() > _GOLDEN_GAP:
            await worker.end()
            raise InternalError("a worker answers the made-up image otherwise than the first one")
        self.state.golden = [float(value) for value in first]
        self.state.description = {key: header[key] for key in ("bundle_id", "labels", "label_set", "engine", "input")}

    def _watch(self, worker: Worker) -> None:
        """Notice a free worker that dies by itself."""

        async def until_dead() -> None:
            await worker.process.wait()
            if worker in self._alive and self._take_out(worker):
                await worker.end()  # its socket is closed here and not when somebody collects it
                self._lost(worker)

        task = asyncio.create_task(until_dead())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_out(self, worker: Worker) -> bool:
        """Remove a worker from the free ones; False where it is at work, which then notices itself."""
        waiting = []
        while not self._free.empty():
            waiting.append(self._free.get_nowait())
        for one in waiting:
            if one is not worker:
                self._free.put_nowait(one)
        return worker in waiting
