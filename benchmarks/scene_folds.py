"""What scenes that a network sees do to folds: how many units there are, how large, and what their folds estimate.

    python benchmarks/scene_folds.py IMAGES --card CARD.yaml [--pooling stages] [--every 5] [--seeds 0 1 2]

Where IMAGES have a validation split, folds are of the training images alone and beside them stands the accuracy on the
validation images of a head fitted on the training images; test images are left out. Else all images are taken, of which
`--every N` keeps each N-th. `before` are the sets by decoys of the same class (`skewed_sets`), which is how scenes were
found until 2026-11-30. Heads are ridge regressions on features of unit length, with one penalty.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from leak_free_split import FOLDS, apart, features_of, recognized

from sortal.data.assign import assign
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.scenes import find_scenes, skewed_sets, within_class
from sortal.data.split import generator_of


def main() -> None:
    """Print a line for each way to make units."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--pooling", default="stages", choices=("mean", "sqrt", "stages"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strength", type=float, default=0.1)
    parser.add_argument("--features", type=Path)
    given = parser.parse_args()
    table = scan(images(given.images))
    split = table.frame["split"].fill_null("").to_numpy()
    official = bool((split == "val").any())
    table = table.select(split != "test") if official else table.select(np.arange(len(table)) % given.every == 0)
    halves = table.with_columns({"split": np.where(np.arange(len(table)) % 2, "test", "train")})
    features = features_of(halves, given.card, given.pooling, given.features)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels, classes = table.label_array(), len(table.labels)
    if official:
        val = (table.frame["split"] == "val").to_numpy()
        share = apart(features, labels, val, classes, "ridge", given.strength)
        print(f"validation images, a head fitted on the others: {share:.1%}")
        features, labels = features[~val], labels[~val]
    vectors = within_class(features, labels)
    ways = {"random": np.arange(len(labels)), "before": skewed_sets(vectors, labels)}
    ways["scenes"] = find_scenes(vectors, labels)[0]
    print("| units | number | images in units of several | largest | fewest in a class | accuracy by folds |")
    print("|---|---|---|---|---|---|")
    for words, units in ways.items():
        found = []
        for seed in given.seeds:
            folds = assign(labels, units, [1 / FOLDS] * FOLDS, generator_of(seed))
            found.append(float(recognized(features, labels, folds, classes, "ridge", given.strength).mean()))
        sizes = np.bincount(units)[np.unique(units)]
        fewest = min(len(np.unique(units[labels == label])) for label in np.unique(labels))
        counted = f"{len(sizes):,} | {int(sizes[sizes > 1].sum()):,} of {len(labels):,} | {sizes.max()} | {fewest}"
        print(f"| {words} | {counted} | {float(np.mean(found)):.1%} |", flush=True)


if __name__ == "__main__":
    main()
