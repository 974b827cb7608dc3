"""Whether requests whose deadline passed leave anything behind that slows those that come later.

    python benchmarks/serving_deadlines.py [--quick] [--work FOLDER]

Throughput of eight clients before and after; between them the only worker stands still (SIGSTOP) while 50,000 requests
come whose images are not answered in time. Some servers become slower with each of these, since what nobody waits for
stays in their queues (https://github.com/triton-inference-server/server/issues/8870). The worker of a server has one
CPU, its front and the clients the other. MobileNetV3-small with random weights, JPEG files of 160 x 120.
5 minutes on two idle cores; --quick (5,000 requests) 50 s.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
from pathlib import Path

from serving_kills import workers
from serving_load import (
    LOST,
    Tally,
    closed_loop,
    memory_mib,
    numbers,
    photographs,
    post,
    running,
    spread,
    wait_until_answered,
)
from serving_overload import asked_once
from serving_peers import CLIENTS, NETWORK, exported, sortal

TURNS, SECONDS = 5, 4.0
GOAL = 0.97
ANSWER_S, WAITING = 0.2, 48
"""So few clients that all of them fit into the queue, and would be answered in time if the worker went on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".serving"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    count, seconds = (5_000, 2.0) if asked.quick else (50_000, SECONDS)
    requests = [post("/predict", image) for image in photographs(width=160, height=120)]
    limits = [f"answer_s={ANSWER_S}", "hang_s=3600", "workers=1", "batch=4"]
    server = sortal("deadlines", exported(NETWORK, asked.work), requests, *limits)
    with running(server.command, asked.work / "deadlines.log") as process:
        wait_until_answered(process, server.port, requests[0])
        [worker] = workers(process.pid)
        part(process.pid, worker)
        rates(server.port, requests, 1.0)
        before, start = rates(server.port, requests, seconds), memory_mib(process.pid, "Rss")
        os.kill(worker, signal.SIGSTOP)
        try:
            late = asyncio.run(closed_loop(server.port, requests, clients=WAITING, count=count))
        finally:
            os.kill(worker, signal.SIGCONT)
        after, end = rates(server.port, requests, seconds), memory_mib(process.pid, "Rss")
        said = numbers(asyncio.run(asked_once(server.port, "/metrics")))
    table(before, late, after, end - start, said)


def part(front: int, worker: int) -> None:
    """The worker gets a CPU of its own, so that the clients do not slow it."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) > 1:
        os.sched_setaffinity(worker, cpus[:1])
        for pid in (front, os.getpid()):
            os.sched_setaffinity(pid, cpus[1:])


def rates(port: int, requests: list[bytes], seconds: float) -> list[float]:
    """Answers a second, some times."""
    return [asyncio.run(closed_loop(port, requests, clients=CLIENTS, seconds=seconds)).rate for _ in range(TURNS)]


def table(before: list[float], late: Tally, after: list[float], more_mib: float, said: dict[str, float]) -> None:
    ratio = statistics.median(after) / statistics.median(before)
    lost = sum(one.status == LOST for one in late.answers)
    received = sum(value for name, value in said.items() if name.startswith("sortal_requests_received_total"))
    ended = sum(value for name, value in said.items() if name.startswith("sortal_requests_total"))
    print(f"\n{len(late.answers):,} requests in {late.seconds:.0f} s while the worker stood still\n")
    print("| measure | value | goal |\n|---|---|---|")
    print(f"| statuses; lost | {late.statuses}; {lost} | 504, or 503 where it is known beforehand; 0 |")
    print(f"| longest, s | {max(one.seconds for one in late.answers):.3f} | {ANSWER_S} and the time to say so |")
    print(f"| answers a second before, after | {spread(before, 0)}, {spread(after, 0)} | – |")
    print(f"| after over before | {ratio:.3f} | ≥ {GOAL} |")
    print(f"| memory, MiB more | {more_mib:.1f} | – |")
    print(f"| received, with an outcome | {received:.0f}, {ended:.0f} | equal |")


if __name__ == "__main__":
    main()
