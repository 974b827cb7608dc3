"""Train the same images under several settings and seeds and compare the final evaluations, each of which is one read
of the test split.

Usage: compare_settings.py IMAGES --setting 'loss.imbalance=none' --setting 'loss.imbalance=auto' [--seeds 3]
       [--common 'train.time=4m model=sortal_tiny'] [--recipe NAME] [--out runs] [--answers FOLDER]
Prints a row a run, then means and differences to the first setting with McNemar's exact test over all seeds' answers.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run."""

    setting: str
    seed: int
    accuracy: float
    balanced: float
    macro_f1: float
    wall_s: float
    cpu_s: float
    right: dict[str, bool]
    """By image name."""


def train(images: Path, setting: str, seed: int, given: argparse.Namespace) -> Result:
    """One run through the command line."""
    command = [sys.executable, "-m", "sortal", "train", str(images), "--out", str(given.out), "--json", f"seed={seed}"]
    command += [*given.common.split(), *setting.split(), *(["--recipe", given.recipe] if given.recipe else [])]
    before, begun_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(done.stdout)
    run = given.out / report["provenance"]["run"]
    values = {name: metric["value"] for name, metric in report["metrics"].items()}
    return Result(
        setting=setting or "(defaults)",
        seed=seed,
        accuracy=values["accuracy"],
        balanced=values["balanced_accuracy"],
        macro_f1=values["macro_f1"],
        wall_s=time.perf_counter() - begun_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        right=answers(run / "predictions.csv"),
    )


def answers(path: Path) -> dict[str, bool]:
    """Which images were answered right."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["image"]: row["label"] == row["answer"] for row in csv.DictReader(file)}


def mcnemar(one: list[Result], other: list[Result]) -> tuple[int, int, float]:
    """Images that only `one` and only `other` got right, over all seeds, and the exact two-sided p."""
    only_one = only_other = 0
    for a, b in zip(one, other, strict=True):
        for name, right in a.right.items():
            only_one += right and not b.right.get(name, right)
            only_other += b.right.get(name, right) and not right
    n, k = only_one + only_other, min(only_one, only_other)
    p = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n) if n else 1.0
    return only_one, only_other, p


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--setting", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--common", default="")
    parser.add_argument("--recipe")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    found: dict[str, list[Result]] = {setting: [] for setting in given.setting}
    print(
        "| setting | seed | accuracy | balanced accuracy | macro F1 | wall s | CPU s |\n|---|---|---|---|---|---|---|"
    )
    for seed in range(given.seeds):
        for setting in given.setting:  # in turn, so that a busy moment of the machine hits them alike
            one = train(given.images, setting, seed, given)
            found[setting].append(one)
            print(
                f"| {one.setting} | {seed} | {one.accuracy:.4f} | {one.balanced:.4f} | {one.macro_f1:.4f} "
                f"| {one.wall_s:.0f} | {one.cpu_s:.0f} |",
                flush=True,
            )
    first = found[given.setting[0]]
    for setting in given.setting[1:]:
        other = found[setting]
        gains = [100 * (mean(r.__dict__[k] for r in other) - mean(r.__dict__[k] for r in first)) for k in KEYS]
        only_first, only_other, p = mcnemar(first, other)
        print(
            f"\n{setting} against {given.setting[0]}: "
            + ", ".join(f"{key} {gain:+.2f} points" for key, gain in zip(KEYS, gains, strict=True))
            + f"; only the first right {only_first}, only the second right {only_other}, McNemar p = {p:.2g}"
        )


KEYS = ("accuracy", "balanced", "macro_f1")

if __name__ == "__main__":
    main()
