"""A worker is killed every two seconds for a minute while clients ask: whether each gets an answer, and how soon.

    python benchmarks/serving_kills.py [--quick] [--work FOLDER]

Two workers, four clients that wait for their answers; one of the workers, by turns, gets SIGKILL. Health is asked ten
times a second and compared with the processes that are there. MobileNetV3-small with random weights, JPEG files of
500 x 375. 75 s on two idle cores; --quick 25 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from serving_load import LOST, Client, Tally, closed_loop, get, photographs, post, running, tree, wait_until_answered
from serving_peers import NETWORK, exported, sortal

WORKERS, CLIENTS = 2, 4
PAUSE_S, LOOK_S, GRACE_S = 2.0, 0.1, 1.0


@dataclass(kw_only=True)
class Seen:
    """What was seen of health and restarts."""

    kills: int = 0
    restarts_s: list[float] = field(default_factory=list)
    """From each kill until one worker more is ready."""
    looks: int = 0
    lies_s: float = 0.0
    """How long health said more workers than there were processes, at most on end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".serving"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    seconds = 14.0 if asked.quick else 60.0
    bundle = exported(NETWORK, asked.work)
    requests = [post("/predict", image) for image in photographs()]
    server = sortal("kills", bundle, requests)
    with running(server.command, asked.work / "kills.log") as process:
        wait_until_answered(process, server.port, requests[0])
        asyncio.run(until_all(server.port))
        tally, seen, ended = asyncio.run(disturbed(server.port, requests, seconds, process.pid))
        asyncio.run(until_all(server.port))
        left = len(workers(process.pid))
    table(tally, seen, ended, left)


def workers(root: int) -> list[int]:
    """Process ids of the workers that are there."""
    found = []
    for pid in tree(root)[1:]:
        with suppress(OSError):
            if b"sortal.serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


async def health(client: Client, port: int) -> tuple[int, dict[str, object]]:
    status, _, body = await client.ask(port, get("/health"), 5.0)
    return status, json.loads(body) if body.startswith(b"{") else {}


async def until_all(port: int) -> None:
    client = Client()
    while (await health(client, port))[1].get("workers") != WORKERS:
        await asyncio.sleep(LOOK_S)
    client.close()


async def disturbed(port: int, requests: list[bytes], seconds: float, root: int) -> tuple[Tally, Seen, bool]:
    """(answers, what was seen, whether the server ended)."""
    seen, killed_s, more_since = Seen(), list[float](), 0.0
    client, ready = Client(), WORKERS
    end_s = time.monotonic() + seconds

    async def kill() -> None:
        while time.monotonic() < end_s - PAUSE_S:
            there = workers(root)
            if there:
                os.kill(there[seen.kills % len(there)], signal.SIGKILL)
                seen.kills += 1
                killed_s.append(time.monotonic())
            await asyncio.sleep(PAUSE_S)

    async def look() -> None:
        nonlocal more_since, ready
        while True:
            status, told = await health(client, port)
            now = time.monotonic()
            seen.looks += 1
            said = int(str(told.get("workers", 0)))
            more = said > len(workers(root)) or (status == 200) != (said > 0)
            more_since = (more_since or now) if more else 0.0
            seen.lies_s = max(seen.lies_s, now - more_since if more else 0.0)
            for _ in range(min(said - ready, len(killed_s))):
                seen.restarts_s.append(now - killed_s.pop(0))
            ready = said
            if said == WORKERS and not more:
                killed_s.clear()  # what is left were kills of workers that were still starting
            await asyncio.sleep(LOOK_S)

    tasks = [asyncio.create_task(kill()), asyncio.create_task(look())]
    tally = await closed_loop(port, requests, clients=CLIENTS, seconds=seconds)
    tasks[0].cancel()
    while killed_s:
        await asyncio.sleep(LOOK_S)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return tally, seen, not Path(f"/proc/{root}").exists()


def table(tally: Tally, seen: Seen, ended: bool, left: int) -> None:  # noqa: FBT001
    times = [one.seconds for one in tally.answers]
    lost = sum(one.status == LOST for one in tally.answers)
    print(f"\n{seen.kills} kills in {tally.seconds:.0f} s, {len(tally.answers)} requests of {CLIENTS} clients\n")
    print("| measure | value | goal |\n|---|---|---|")
    print(f"| without an answer | {lost} | 0 |")
    print(f"| statuses | {tally.statuses} | – |")
    print(f"| longest, p99 s of a request | {max(times):.2f}, {np.quantile(times, 0.99):.2f} | ≤ 1 |")
    restarts = seen.restarts_s or [float("nan")]
    print(
        f"| from a kill to another worker, s: median (most) | {np.median(restarts):.1f} ({max(restarts):.1f}) | ≤ 3 |"
    )
    print(f"| health said too much, s on end at most | {seen.lies_s:.1f} of {seen.looks} looks | ≤ {GRACE_S:g} |")
    print(f"| server ended; workers at the end | {ended}; {left} | no; {WORKERS} |")


if __name__ == "__main__":
    main()
