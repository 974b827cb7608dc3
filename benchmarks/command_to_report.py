"""`sortal train` from the command to the report; for frozen features against scikit-learn in the same run.

    python benchmarks/command_to_report.py IMAGES --card CARD.yaml [--trials 3] [--peer] [key=value ...]
    python benchmarks/command_to_report.py IMAGES model.weights=null train.time=4m

IMAGES is any source that `sortal train` takes. With a weights card a head is fitted on frozen features; `--peer` then
times eager timm features + scikit-learn's logistic regression on the rows, split and weights of the first trial.
Prints wall and CPU seconds of the whole command and the accuracy with its interval.
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
from typing import Any


def timed(command: list[str], environment: dict[str, str]) -> tuple[str, float, float]:
    """Run to the end; standard output, wall seconds, CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    wall_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(asked: argparse.Namespace, folder: str, environment: dict[str, str]) -> tuple[dict[str, Any], float, float]:
    """One run; its report, wall seconds, CPU seconds."""
    command = [sys.executable, "-m", "sortal", "train", str(asked.images), *asked.settings, "--out", folder, "--json"]
    if asked.card is not None:
        command += [f"model={asked.card}", "train.epochs=0"]
    out, wall_s, cpu_s = timed(command, environment)
    return json.loads(out), wall_s, cpu_s


def compare_with_peer(asked: argparse.Namespace, folder: str, environment: dict[str, str], wall_s: float) -> None:
    """The peer on the first trial's split, and the ratio of wall times."""
    run = min(Path(folder).iterdir(), key=lambda path: path.stat().st_ctime)
    peer = [sys.executable, str(Path(__file__).parent / "peers" / "sklearn_probe.py")]
    out, peer_s, cpu_s = timed([*peer, str(run), str(asked.root or asked.images), str(asked.card)], environment)
    print(f"timm features + scikit-learn: {peer_s:.1f} s wall, {cpu_s:.1f} s CPU  {out.strip()}")
    print(f"ratio of wall time, sortal / peer: {wall_s / peer_s:.2f}")


def main() -> None:
    """Run the trials, then the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--card", type=Path)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--root", type=Path, help="folder that the row names are relative to; default: IMAGES")
    parser.add_argument("--peer", action="store_true")
    asked = parser.parse_intermixed_args()
    environment = {**os.environ, "SORTAL_OFFLINE": "1"}
    walls = []
    with tempfile.TemporaryDirectory() as folder:
        for trial in range(asked.trials):
            report, wall_s, cpu_s = train(asked, folder, environment)
            walls.append(wall_s)
            shown = {name: report["metrics"].get(name) for name in ("accuracy", "macro_f1", "coarse_accuracy")}
            print(f"sortal, trial {trial + 1}: {wall_s:.1f} s wall, {cpu_s:.1f} s CPU  {json.dumps(shown)}", flush=True)
        print(f"sortal: median {statistics.median(walls):.1f} s (from {min(walls):.1f} to {max(walls):.1f})")
        if asked.peer:
            compare_with_peer(asked, folder, environment, statistics.median(walls))


if __name__ == "__main__":
    main()
