"""What it costs to hand a batch of images to another process: over a socket, and through shared memory.

    python benchmarks/batch_memory.py [--batches 1000] [--size 58000]

The front's side is asyncio, as in `sortal serve`; the other process reads all bytes and answers 2 kB. Both ways in
turns, five of each; CPU of each side and wall time, in microseconds a batch: median (range). 20 s on two idle cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from sortal.serve.frames import pack, read_frame, receive, send
from sortal.serve.memory import BatchMemory, create_memory, open_memory

TURNS = 5
ANSWER = bytes(2048)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Microseconds a batch."""

    front: float
    other: float
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--size", type=int, default=58_000, help="bytes of an image")
    asked = parser.parse_args()
    print("| images | way | CPU µs of the front | CPU µs of the other | wall µs |\n|---|---|---|---|---|")
    for count in (1, 2, 4, 8, 32):
        images = [os.urandom(asked.size) for _ in range(count)]
        found: dict[str, list[Cost]] = {"socket": [], "memory": []}
        for _ in range(TURNS):
            for way in found:
                found[way].append(asyncio.run(handed(images, asked.batches, through_memory=way == "memory")))
        for way, costs in found.items():
            columns = [[getattr(one, name) for one in costs] for name in ("front", "other", "wall")]
            print(f"| {count} | {way} | {' | '.join(spread(one) for one in columns)} |", flush=True)


async def handed(images: Sequence[bytes], batches: int, *, through_memory: bool) -> Cost:
    """The cost of handing over the same images again and again."""
    made = create_memory()
    assert made is not None, "this system has no memory to share"
    memory, descriptor = made
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        answer_all(theirs, open_memory(descriptor))
    theirs.close()
    os.close(descriptor)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        for _ in range(10):
            writer.writelines(message(memory if through_memory else None, images))
            await read_frame(reader)
        child = psutil.Process(pid)
        before, cpu_s, started_s = child.cpu_times(), time.process_time(), time.perf_counter()
        for _ in range(batches):
            writer.writelines(message(memory if through_memory else None, images))
            await read_frame(reader)
        after = child.cpu_times()
        spent = (time.process_time() - cpu_s, sum(after[:2]) - sum(before[:2]), time.perf_counter() - started_s)
        front, other, wall = (1e6 * seconds / batches for seconds in spent)
        return Cost(front=front, other=other, wall=wall)
    finally:
        writer.close()
        memory.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def message(memory: BatchMemory | None, images: Sequence[bytes]) -> list[bytes]:
    sizes = memory.put(images) if memory is not None else None
    return pack({"kind": "question"}, images) if sizes is None else pack({"kind": "question", "laid": sizes})


def answer_all(channel: socket.socket, memory: BatchMemory | None) -> None:
    """The other process; it is killed in the end."""
    while receive(channel, memory) is not None:
        send(channel, {"kind": "answers"}, [ANSWER])
    os._exit(0)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


if __name__ == "__main__":
    main()
