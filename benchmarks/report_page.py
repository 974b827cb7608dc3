"""The page of an evaluation at 200 classes and 10,000 images: how long it takes, how large it is, and whether it works.

    python benchmarks/report_page.py [--classes 200] [--images 10000] [--trials 3]

Draws 10,000 answers and small pictures, measures and writes the report as `sortal evaluate` does, and opens the page in
a headless Chromium, where every cell with images, every row of the table of classes and every bin of the curves is
clicked. Prints seconds, megabytes, what was clicked and how many images each click showed at least. Exit 1 where a
limit is missed: 60 s, 10 MB, a click without images.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.evaluate.evaluation import evaluate_predictions
from sortal.evaluate.files import write_evaluation
from sortal.evaluate.trust.confidence import with_confidence

MOST_S, MOST_MB = 60.0, 10.0
CLICKS = """
  const seen = () => document.querySelectorAll('#shown-list li').length, count = (act) => { act(); return seen(); };
  const least = (found) => [found.length, Math.min(...found)];
  const rows = (name) => [...document.querySelectorAll(`table[data-name=${name}] tbody tr`)];
  const hits = (id) => [...document.querySelectorAll(`#${id} .hit`)];
  const press = (spot) => () => spot.dispatchEvent(new MouseEvent('click'));
  return {
    cells: least(study.cells.map(([row, column]) => count(() => showCell(row, column)))),
    classes: least(rows('per_class').map((line) => count(() => line.click()))),
    pairs: least(rows('confused_pairs').map((line) => count(() => line.click()))),
    bins: least(hits('reliability').map((spot) => count(press(spot)))),
    points: ((found) => [found.length, Math.max(0, ...found)])(hits('risk-coverage').map((spot) => count(press(spot)))),
  };"""


def main() -> int:
    """Write the page so many times, then click."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the page stays")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch) / "page"
        spent = [written(asked.classes, asked.images, folder) for _ in range(asked.trials)]
        page = folder / "report.html"
        size_mb = page.stat().st_size / 1e6
        clicked = click(page, Path(scratch))
    wall = ", ".join(f"{wall_s:.1f}" for wall_s, _ in spent)
    cpu = ", ".join(f"{cpu_s:.1f}" for _, cpu_s in spent)
    print(f"{asked.classes} classes, {asked.images:,} images: {wall} s wall, {cpu} s CPU; page {size_mb:.1f} MB")
    for name, (number, least) in clicked.items():
        print(
            f"{name:<8} {number:>6} clicked, images shown by each: at {'most' if name == 'points' else 'least'} {least}"
        )
    works = all(number > 0 and least > 0 for number, least in clicked.values())
    return 0 if works and size_mb <= MOST_MB and min(wall_s for wall_s, _ in spent) <= MOST_S else 1


def answers(classes: int, images: int) -> tuple[Predictions, np.ndarray]:
    """About 93 % right, with mistakes that lean toward a neighboring class."""
    generator = np.random.Generator(np.random.Philox(key=0))
    names = tuple(f"{('六角螺栓', 'hex nut', 'washer 垫圈', 'O-ring')[n % 4]} M{n}" for n in range(classes))
    labels = generator.integers(0, classes, images)
    logits = generator.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += 4.5
    logits[np.arange(images), (labels + 4) % classes] += 2.2 * (generator.random(images) < 0.5)
    found = predictions_from_logits(
        2 * logits,
        names=[f"{names[label]}/{row:06d}.jpg" for row, label in enumerate(labels.tolist())],
        labels=LabelSet(names=names, parents=tuple(name.split(" M")[0] for name in names)),
        decision=DecisionSpec(temperature=1.1),
        bundle_id="0" * 64,
    )
    return found, labels


def written(classes: int, images: int, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of measuring the answers and writing the files."""
    predictions, labels = answers(classes, images)
    generator = np.random.Generator(np.random.Philox(key=1))
    pictures = generator.integers(0, 256, (64, 54, 72, 3)).astype(np.uint8)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    report = evaluate_predictions(predictions, labels, subject="parts", train_counts=np.full(classes, 50))
    report = with_confidence(report, predictions, labels, DecisionSpec(temperature=1.1), np.full(images, -1))
    write_evaluation(
        report,
        predictions,
        labels,
        predictions.names,
        folder,
        show=lambda rows: [pictures[row % 64] for row in rows],
    )
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def click(page: Path, scratch: Path) -> dict[str, Any]:
    """What every click shows, as the browser says."""
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if browser is None:
        sys.exit("no Chromium is installed")
    steps = f"document.body.dataset.result = JSON.stringify((() => {{{CLICKS}}})());"
    probe = f"<script>addEventListener('load', () => setTimeout(() => {{{steps}}}, 50));</script><main>"
    copy = scratch / "clicked.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("<main>", probe, 1), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={scratch / 'browser'}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=20000", "--dump-dom", f"file://{copy}"], capture_output=True, check=True
    )
    found = re.search(r'<body[^>]* data-result="([^"]*)"', done.stdout.decode("utf-8"))
    if found is None:
        sys.exit("the page did not answer")
    clicked: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return clicked


if __name__ == "__main__":
    sys.exit(main())
