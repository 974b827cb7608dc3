"""Whether a server keeps anything of the requests that it answered: memory, files and threads over 50,000 of them.

    python benchmarks/serving_leak.py [--quick] [--work FOLDER]

Of ten requests four are small images, the others what goes wrong: bytes that are no image, an empty body, a number that
is none, a body that is too large, a client that leaves in the middle of its body, one that leaves before its answer.
Memory of all processes is read every 500 requests; its slope over the last half, in bytes a request, is what counts.
Then the same again, shorter, with a server that keeps 1 kB of each request: it has to be found (the positive control).
MobileNetV3-small with random weights. 4 minutes on two idle cores; --quick (4,000 requests) 40 s.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from serving_load import (
    HOST,
    LOST,
    Client,
    get,
    memory_mib,
    numbers,
    photographs,
    post,
    running,
    tree,
    wait_until_answered,
)
from serving_peers import NETWORK, exported, sortal

CLIENTS, READ_EVERY = 8, 500
PLANTED = 1024
GOAL = 100.0
BODY_MB = 0.2


@dataclass(kw_only=True)
class Readings:
    """What was read while requests went through."""

    requests: list[int] = field(default_factory=list)
    memory_bytes: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def slope(self) -> float:
        """Bytes a request over the last half."""
        half = len(self.requests) // 2
        return float(np.polyfit(self.requests[half:], self.memory_bytes[half:], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".serving"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    count, planted = (4_000, 4_000) if asked.quick else (50_000, 10_000)
    bundle = exported(NETWORK, asked.work)
    print("\n| server | requests | bytes a request kept (goal) | files, threads: half, end | unaccounted | statuses |")
    print("|---|---|---|---|---|---|")
    row("sortal serve", f"≤ {GOAL:g}", *measured(bundle, asked.work, count, leaking=False))
    row(f"with {PLANTED} bytes planted", f"> {GOAL:g}", *measured(bundle, asked.work, planted, leaking=True))


def measured(bundle: Path, work: Path, count: int, *, leaking: bool) -> tuple[int, Readings, float]:
    """(requests, readings, requests without an outcome)."""
    server = sortal("leak", bundle, [], "workers=2", f"body_mb={BODY_MB}")
    command = server.command
    if leaking:
        command = [sys.executable, __file__, "--leaking", *command[3:]]
    image = photographs(1, width=96, height=96)[0]
    with running(command, work / "leak.log") as process:
        wait_until_answered(process, server.port, post("/predict", image))
        readings = asyncio.run(mixed(server.port, image, count, process.pid))
        said = numbers(asyncio.run(metrics(server.port)))
    received = sum(value for name, value in said.items() if name.startswith("sortal_requests_received_total"))
    ended = sum(value for name, value in said.items() if name.startswith("sortal_requests_total"))
    return count, readings, received - ended


async def mixed(port: int, image: bytes, count: int, root: int) -> Readings:
    readings, sent = Readings(), 0
    kinds = [post("/predict", image)] * 4 + [
        post("/predict", b"this is no image" * 20),
        post("/predict", b""),
        post("/predict?top=many", image),
        post("/predict", bytes(int(1e6 * BODY_MB) + 1)),
    ]

    async def one() -> None:
        nonlocal sent
        client = Client()
        while sent < count:
            number, sent = sent, sent + 1
            if number % READ_EVERY == 0:
                read(readings, number, root)
            kind = number % (len(kinds) + 2)
            if kind < len(kinds):
                status = (await client.ask(port, kinds[kind]))[0]
            else:
                status = await left(port, kinds[0], len(kinds[0]) // 2 if kind == len(kinds) else len(kinds[0]))
            readings.statuses[status] = readings.statuses.get(status, 0) + 1
        client.close()

    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    await asyncio.sleep(1.0)
    read(readings, count, root)
    return readings


async def left(port: int, request: bytes, part: int) -> int:
    """A client that sends a part of a request and goes."""
    _, writer = await asyncio.open_connection(HOST, port)
    writer.write(request[:part])
    await writer.drain()
    writer.transport.abort()
    return LOST


def read(readings: Readings, number: int, root: int) -> None:
    """Memory of all processes; files and threads of the server's own."""
    readings.requests.append(number)
    readings.memory_bytes.append(2**20 * memory_mib(root, "Rss"))
    files = threads = 0
    for pid in tree(root):
        with suppress(OSError):
            files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            threads += len(list(Path(f"/proc/{pid}/task").iterdir()))
    readings.files.append(files)
    readings.threads.append(threads)


async def metrics(port: int) -> bytes:
    client = Client()
    try:
        return (await client.ask(port, get("/metrics")))[2]
    finally:
        client.close()


def row(name: str, goal: str, count: int, readings: Readings, unaccounted: float) -> None:
    half = len(readings.requests) // 2
    own = f"{readings.files[half]}, {readings.threads[half]}; {readings.files[-1]}, {readings.threads[-1]}"
    statuses = ", ".join(f"{status or 'left'}: {number}" for status, number in sorted(readings.statuses.items()))
    print(
        f"| {name} | {count:,} | {readings.slope:.0f} ({goal}) | {own} | {unaccounted:.0f} | {statuses} |", flush=True
    )


def leaking(arguments: list[str]) -> None:
    """`sortal` with arguments, keeping 1 kB of each request."""
    from sortal.cli.app import run
    from sortal.serve.account import Account

    kept, finish = list[bytearray](), Account.finish

    def finish_and_keep(self: Account, *given: object) -> None:
        kept.append(bytearray(b"x" * PLANTED))
        finish(self, *given)  # type: ignore[arg-type]

    Account.finish = finish_and_keep  # type: ignore[method-assign,assignment]
    sys.exit(run(arguments))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--leaking"]:
        leaking(sys.argv[2:])
    else:
        main()
