"""Frozen-feature probe from the command to the report, against scikit-learn on eager timm features in the same run.

    python benchmarks/probe.py IMAGES --card CARD.yaml [--trials 3] [--no-peer] [key=value ...]

IMAGES is any source that `sortal train` takes. The peer sees the rows, the split and the weights of the first trial.
Prints wall and CPU seconds of the whole command, accuracy with its interval, and the peer's accuracy and time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(command: list[str], environment: dict[str, str]) -> tuple[str, float, float]:
    """Run to the end; standard output, wall seconds, CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    wall_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run the trials, then the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--root", type=Path, help="folder that the row names are relative to; default: IMAGES")
    parser.add_argument("--no-peer", action="store_true")
    asked = parser.parse_args()
    environment = {**os.environ, "SORTAL_OFFLINE": "1"}
    walls = []
    with tempfile.TemporaryDirectory() as folder:
        for trial in range(asked.trials):
            command = [sys.executable, "-m", "sortal", "train", str(asked.images), f"model={asked.card}"]
            command += ["train.epochs=0", *asked.settings, "--out", folder, "--json"]
            out, wall_s, cpu_s = timed(command, environment)
            report = json.loads(out)
            walls.append(wall_s)
            shown = {name: report["metrics"].get(name) for name in ("accuracy", "macro_f1", "coarse_accuracy")}
            print(f"sortal, trial {trial + 1}: {wall_s:.1f} s wall, {cpu_s:.1f} s CPU  {json.dumps(shown)}", flush=True)
        print(f"sortal: median {statistics.median(walls):.1f} s (from {min(walls):.1f} to {max(walls):.1f})")
        if not asked.no_peer:
            run = min(Path(folder).iterdir(), key=lambda path: path.stat().st_ctime)
            peer = [sys.executable, str(Path(__file__).parent / "peers" / "sklearn_probe.py")]
            out, wall_s, cpu_s = timed([*peer, str(run), str(asked.root or asked.images), str(asked.card)], environment)
            print(f"timm features + scikit-learn: {wall_s:.1f} s wall, {cpu_s:.1f} s CPU  {out.strip()}")
            print(f"ratio of wall time, sortal / peer: {statistics.median(walls) / wall_s:.2f}")


if __name__ == "__main__":
    main()
