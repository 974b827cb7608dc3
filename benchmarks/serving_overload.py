"""Five times as many requests as a server can answer, for a minute: what it answers, what it refuses, what it keeps.

    python benchmarks/serving_overload.py [--quick] [--work FOLDER]

The server has one CPU and the load generator another (`taskset`), since requests that are refused cost their client as
much as others. Capacity is what eight clients get that wait for their answers. Then requests come at random moments
(open loop, Poisson) at five times that rate, in three rounds of 20 s; capacity is measured before, between and after
them, because machines are not equally fast all the time, and good answers of a round are compared with its neighbors.
Queue and memory are read twice a second. MobileNetV3-small with random weights, JPEG files of 500 x 375. 100 s on two
idle cores; --quick 35 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from serving_load import (
    LOST,
    Answer,
    Client,
    Tally,
    closed_loop,
    get,
    memory_mib,
    numbers,
    open_loop,
    photographs,
    post,
    running,
    spread,
    wait_until_answered,
)
from serving_peers import CLIENTS, NETWORK, exported, sortal

TIMES = 5
ROUNDS = 3
QUEUE = 64
LOOK_S = 0.5
CODES = (429, 503)


@dataclass(kw_only=True)
class Watched:
    """What was read while the load ran."""

    queue: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".serving"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    warm_s, seconds = (3.0, 5.0) if asked.quick else (8.0, 20.0)
    bundle = exported(NETWORK, asked.work)
    requests = [post("/predict", image) for image in photographs()]
    server = sortal("overload", bundle, requests, "workers=1", f"queue={QUEUE}")
    cpus = sorted(os.sched_getaffinity(0))
    pinned = ["taskset", "-c", str(cpus[0]), *server.command] if len(cpus) > 1 else server.command
    with running(pinned, asked.work / "overload.log") as process:
        if len(cpus) > 1:
            os.sched_setaffinity(0, set(cpus[1:]))
        wait_until_answered(process, server.port, requests[0])
        asyncio.run(closed_loop(server.port, requests, clients=CLIENTS, seconds=warm_s / 2))
        calm = [asyncio.run(closed_loop(server.port, requests, clients=CLIENTS, seconds=warm_s))]
        before, tallies, watched = memory_mib(process.pid, "Rss"), list[Tally](), Watched()
        for _ in range(ROUNDS):
            rate = TIMES * calm[-1].rate
            tallies.append(asyncio.run(loaded(server.port, requests, rate, seconds, process.pid, watched)))
            calm.append(asyncio.run(closed_loop(server.port, requests, clients=CLIENTS, seconds=warm_s)))
        said = numbers(asyncio.run(asked_once(server.port, "/metrics")))
    table(calm, tallies, watched, before, said)


async def loaded(port: int, requests: list[bytes], rate: float, seconds: float, root: int, watched: Watched) -> Tally:
    """The load, with somebody who looks at queue and memory."""

    async def look() -> None:
        client = Client()
        while True:
            status, _, text = await client.ask(port, get("/metrics"))
            if status == 200:
                watched.queue.append(sum(v for k, v in numbers(text).items() if k.startswith("sortal_queue_images")))
            watched.memory.append(memory_mib(root, "Rss"))
            await asyncio.sleep(LOOK_S)

    looking = asyncio.create_task(look())
    tally = await open_loop(port, requests, rate=rate, seconds=seconds, keep=True)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    return tally


async def asked_once(port: int, path: str) -> bytes:
    client = Client()
    try:
        return (await client.ask(port, get(path)))[2]
    finally:
        client.close()


def is_told_well(answer: Answer) -> bool:
    """Whether a refusal says when to come again, and why, in JSON."""
    with suppress(ValueError):
        return answer.retry_after.isdigit() and "error" in json.loads(answer.body)
    return False


def table(calm: list[Tally], tallies: list[Tally], watched: Watched, before: float, said: dict[str, float]) -> None:
    tally = Tally(seconds=sum(one.seconds for one in tallies), unsent=sum(one.unsent for one in tallies))
    tally.answers = [answer for one in tallies for answer in one.answers]
    neighbors = [(first.rate + second.rate) / 2 for first, second in pairwise(calm)]
    shares = [one.rate / capacity for one, capacity in zip(tallies, neighbors, strict=True)]
    refused = [one for one in tally.answers if one.status in CODES]
    lost = sum(one.status == LOST for one in tally.answers)
    told = sum(is_told_well(one) for one in refused)
    slow = max((tally.quantile_ms(0.99, status=code) for code in CODES if code in tally.statuses), default=0.0)
    received = sum(value for name, value in said.items() if name.startswith("sortal_requests_received_total"))
    ended = sum(value for name, value in said.items() if name.startswith("sortal_requests_total"))
    offered = [len(one.answers) / one.seconds / capacity for one, capacity in zip(tallies, neighbors, strict=True)]
    print(f"\ncapacity {spread([one.rate for one in calm], 0)}/s, offered {spread(offered, 1)} times as much,", end=" ")
    print(f"{len(tallies)} rounds of {tallies[0].seconds:g} s\n")
    print("| measure | value | goal |\n|---|---|---|")
    print(f"| good answers, of capacity | {spread(shares)} ({tally.rate:.0f}/s) | ≥ 0.90 |")
    print(f"| statuses; lost; not sent | {tally.statuses}; {lost}; {tally.unsent} | 200 and 503 alone; 0 lost |")
    print(f"| queue, most | {max(watched.queue, default=-1):.0f} of {QUEUE} | bounded |")
    print(f"| refusals, p99 ms | {slow:.0f} | ≤ 250 |")
    print(f"| refusals with Retry-After and JSON | {told} of {len(refused)} | all |")
    print(f"| good answers, p99 ms (calm; after) | {tally.quantile_ms(0.99):.0f} ({calm[0].quantile_ms(0.99):.0f}; "
          f"{calm[-1].quantile_ms(0.99):.0f}) | after as calm |")  # fmt: skip
    print(f"| memory, MiB more at most | {max(watched.memory) - before:.0f} | ≤ 50 |")
    print(f"| received, with an outcome | {received:.0f}, {ended:.0f} | equal |")


if __name__ == "__main__":
    main()
