"""How waiting threads should wait: a training step on an idle and on a busy machine, by libgomp's setting.

    python benchmarks/waiting_threads.py [--trials 3]

One step of MobileNetV2 (32 images of 128 px), in a process of its own for each setting, settings in turn; busy means
two more processes that compute all the time. Prints the median and the range of the step in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's default": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=3000": {"GOMP_SPINCOUNT": "3000"},
}
STEP = """
import time, timm, torch
torch.set_num_threads(2)
network = timm.create_model("mobilenetv2_100").to(memory_format=torch.channels_last)
images = torch.randn(32, 3, 128, 128).contiguous(memory_format=torch.channels_last)
for step in range(7):
    if step == 2:
        started_s = time.perf_counter()
    network(images).sum().backward()
print((time.perf_counter() - started_s) / 5 * 1000)
"""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Others that compute, ended by their ids."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def step_ms(setting: dict[str, str]) -> float:
    """One measurement in a new process."""
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", STEP], env={**clean, **setting}, capture_output=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Idle first, then busy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3)
    trials = parser.parse_args().trials
    for others in (0, 2):
        with busy(others):
            found: dict[str, list[float]] = {name: [] for name in SETTINGS}
            for _ in range(trials):
                for name, setting in SETTINGS.items():
                    found[name].append(step_ms(setting))
        for name, times_ms in found.items():
            median, low, high = statistics.median(times_ms), min(times_ms), max(times_ms)
            print(f"{others} other processes  {name:<24} {median:5.0f} ms  ({low:.0f} to {high:.0f})", flush=True)


if __name__ == "__main__":
    main()
