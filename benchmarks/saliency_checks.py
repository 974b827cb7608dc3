"""Do maps without gradients mark what matters, and do random weights change them? On validation images of a run.

    python benchmarks/saliency_checks.py runs/datas-1 path/to/X-SDD/datas --images 12

Prints, for each kind of map: of how many images it lowered the score more than every one of six random orders, the mean
loss of log-odds by its order and by random ones, and the largest rank correlation with the map of random weights.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from sortal.evaluate.explain.explanation import CheckedMap, explain_pixels
from sortal.evaluate.explain.viewed import randomized, viewed


def main() -> None:
    """Parse, explain, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("images_folder", type=Path)
    parser.add_argument("--images", type=int, default=12)
    asked = parser.parse_args()
    with (asked.run / "split.csv").open(encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file) if row["split"] == "val"]
    chosen = [names[place] for place in np.random.default_rng(0).permutation(len(names))[: asked.images]]
    found: dict[str, list[CheckedMap]] = defaultdict(list)
    with viewed(asked.run, threads=1) as view, randomized(view, threads=1) as twin:
        for name in chosen:
            pixels = view.pixels((asked.images_folder / name).read_bytes(), name)
            told = explain_pixels(view, twin, pixels, name, target=None, gradients=None, random_gradients=None)
            for one in told.maps:
                found[one.kind].append(one)
    for kind, maps in found.items():
        faithful = sum(one.deletion.faithful for one in maps)
        falls = np.mean([(one.deletion.salient, one.deletion.random) for one in maps], axis=0)
        most = max(one.random_weights or 0.0 for one in maps)
        print(f"{kind}: {faithful} of {len(maps)} faithful, {falls[0]:.2f} against {falls[1]:.2f}, at most {most:.2f}")


if __name__ == "__main__":
    main()
