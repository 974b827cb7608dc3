"""What batches, warm-up and several workers are worth: each switched off alone, and all of them.

    python benchmarks/serving_switches.py [--quick] [--rounds 3] [--work FOLDER]

Capacity is what eight clients get that wait for their answers, with everything on. Then every way gets the same
requests at random moments (open loop, Poisson) at nine tenths of that rate, and an answer counts that is there within a
second; an error is any other outcome. `first` is the first request after the server called itself ready. The busy
share is that of the workers, from /metrics. MobileNetV3-small with random weights, JPEG files of 500 x 375, CPU. The
ways take turns, `--rounds` times; printed are medians and ranges.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving_load import (
    Client,
    Tally,
    closed_loop,
    get,
    numbers,
    open_loop,
    photographs,
    post,
    running,
    spread,
    wait_until_answered,
)
from serving_peers import CLIENTS, NETWORK, exported, sortal

LIMIT_S = 1.0
SHARE = 0.9
WAYS = {
    "all on": (),
    "no batches": ("batch=1",),
    "no warm-up": ("warm=false",),
    "one worker": ("workers=1",),
    "all off": ("batch=1", "warm=false", "workers=1"),
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way under load."""

    first_ms: float
    tally: Tally
    busy: float
    batch: float

    @property
    def errors(self) -> float:
        """Share of the requests without an answer in time."""
        return 1 - len(self.tally.good) / max(len(self.tally.answers) + self.tally.unsent, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".serving"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    seconds, rounds = (4.0, 2) if asked.quick else (8.0, asked.rounds)
    bundle = exported(NETWORK, asked.work)
    requests = [post("/predict", image) for image in photographs()]
    with served(bundle, requests, asked.work) as port:
        capacity = asyncio.run(closed_loop(port, requests, clients=CLIENTS, seconds=seconds)).rate
    print(f"capacity {capacity:.0f} requests/s; load {SHARE * capacity:.0f}/s for {seconds:g} s, {rounds} rounds\n")
    trials: dict[str, list[Trial]] = {name: [] for name in WAYS}
    for turn in range(rounds):
        for name, settings in WAYS.items():
            with served(bundle, requests, asked.work, *settings) as port:
                trials[name].append(asyncio.run(tried(port, requests, SHARE * capacity, seconds, turn, settings)))
    print("| | first ms | median ms | p95 ms | errors % | busy % | images a batch |\n|---|---|---|---|---|---|---|")
    for name, found in trials.items():
        print(f"| {name} | " + " | ".join(columns(found)) + " |")


@contextmanager
def served(bundle: Path, requests: list[bytes], work: Path, *settings: str) -> Iterator[int]:
    """A server that calls itself ready; the port of it."""
    server = sortal("switches", bundle, requests, f"answer_s={LIMIT_S:g}", "engine=onnxruntime", *settings)
    with running(server.command, work / "switches.log", OMP_NUM_THREADS="1") as process:
        wait_until_answered(process, server.port, get("/readyz"))
        yield server.port


async def tried(
    port: int, requests: list[bytes], rate: float, seconds: float, seed: int, settings: tuple[str, ...]
) -> Trial:
    first = await closed_loop(port, requests, clients=1, count=1)
    tally = await open_loop(port, requests, rate=rate, seconds=seconds, seed=seed)
    client = Client()
    told = numbers((await client.ask(port, get("/metrics")))[2])
    client.close()

    def total(name: str) -> float:
        return sum(value for series, value in told.items() if series.partition("{")[0] == name)

    workers = 1 if "workers=1" in settings else 2
    return Trial(
        first_ms=1e3 * first.answers[0].seconds,
        tally=tally,
        busy=total("sortal_worker_busy_seconds_total") / (workers * seconds),
        batch=total("sortal_batch_images_sum") / total("sortal_batch_images_count"),
    )


def columns(found: list[Trial]) -> list[str]:
    return [
        spread([one.first_ms for one in found], 1),
        spread([one.tally.quantile_ms(0.5) for one in found], 1),
        spread([one.tally.quantile_ms(0.95) for one in found], 1),
        spread([100 * one.errors for one in found], 1),
        spread([100 * one.busy for one in found], 0),
        spread([one.batch for one in found], 1),
    ]


if __name__ == "__main__":
    main()
