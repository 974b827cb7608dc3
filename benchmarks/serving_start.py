"""What a server costs before and between requests: CPU until it is ready, memory with two workers, CPU while idle.

    python benchmarks/serving_start.py [--quick] [--work FOLDER]

Loading the engine is a process that opens the same classifier and answers one image; a server of one worker may take
1 CPU s more, and one of two workers that much more than loading it twice. Memory is PSS: pages that processes share
count once. MobileNetV3-small with random weights. 90 s on two idle cores; --quick 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path

from serving_load import Client, closed_loop, cpu_s, get, memory_mib, photographs, post, running, spread
from serving_peers import CLIENTS, NETWORK, exported, sortal

LOAD = """
import sys, numpy
from pathlib import Path
from sortal.runtime.classifier import open_classifier
open_classifier(Path(sys.argv[1]), engine="onnxruntime", threads=1).predict(numpy.zeros((224, 224, 3), numpy.uint8))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".serving"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    turns, idle_s = (2, 5.0) if asked.quick else (5, 20.0)
    bundle = exported(NETWORK, asked.work)
    alone = [loading_s(bundle) for _ in range(turns)]
    print(f"\n{turns} starts; median (range). Loading the engine takes {spread(alone)} CPU s.\n")
    print("| workers | CPU s until ready | more than loading (goal) | PSS MiB ready, loaded (goal) | idle % |")
    print("|---|---|---|---|---|")
    for workers in (1, 2):
        found = [started(bundle, asked.work, workers, idle_s if turn == 0 else 0.0) for turn in range(turns)]
        cpu, ready, after, idle = zip(*found, strict=True)
        more = [own - workers * load for own, load in zip(cpu, alone, strict=True)]
        memory = f"{spread(after, 0)} (≤ 250)" if workers == 2 else spread(after, 0)
        row = (
            f"| {workers} | {spread(cpu)} | {spread(more)} (≤ 1) | {spread(ready, 0)}, {memory} | {idle[0]:.2f} (≤ 1) |"
        )
        print(row, flush=True)


def loading_s(bundle: Path) -> float:
    """CPU seconds of a process that opens the classifier and answers one image."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", LOAD, str(bundle)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def started(bundle: Path, work: Path, workers: int, idle_s: float) -> tuple[float, float, float, float]:
    """(CPU s until all workers are ready, PSS then, PSS after 200 requests, share of one CPU while idle in percent)."""
    requests = [post("/predict", image) for image in photographs(4)]
    server = sortal("start", bundle, requests)
    command = [f"workers={workers}" if part.startswith("workers=") else part for part in server.command]
    with running(command, work / "start.log") as process:
        asyncio.run(until_ready(server.port, workers))
        took, ready = cpu_s(process.pid), memory_mib(process.pid)
        asyncio.run(closed_loop(server.port, requests, clients=CLIENTS, count=200))
        after, before = memory_mib(process.pid), cpu_s(process.pid)
        time.sleep(idle_s)
        idle = 100 * (cpu_s(process.pid) - before) / idle_s if idle_s else 0.0
    return took, ready, after, idle


async def until_ready(port: int, workers: int) -> None:
    client = Client()
    while f'"workers":{workers},'.encode() not in (await client.ask(port, get("/health")))[2].replace(b" ", b""):
        await asyncio.sleep(0.1)
    client.close()


if __name__ == "__main__":
    main()
