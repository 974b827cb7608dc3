"""How high an accuracy is estimated by random folds, by folds that cut no burst, and by the official validation split.

    python benchmarks/leak_free_split.py IMAGES --card CARD.yaml --known 0.792 [--seeds 5] [--features FILE.npz]

IMAGES has an official train and val split, which are pooled; its test images are left out before anything is opened.
`--known` is the accuracy on that test of the same head on the same features, measured elsewhere: it is printed beside
the estimates and decides nothing. The head is a multinomial regression whose penalty is chosen on the official
validation images once, for all rows of the table. Images whose class is a single unit can never be right where they
are held out; how many there are is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.progress import Silent
from sortal.core.recipe import Recipe
from sortal.data.folds import FOLD, classes_of_one_unit, with_folds
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.data.units import BURST, NEAR, units
from sortal.divide import relate
from sortal.graphs import engine_features
from sortal.start import start_of
from sortal.train.probe import choose_strength, fit_head

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]


def features_of(table: ImageTable, card: Path, kept: Path | None) -> Singles:
    """(N, D) frozen features at 224 px, mean-pooled."""
    if kept is not None and kept.is_file():
        return np.load(kept)["values"]
    recipe = Recipe.model_validate(
        {
            "model": {"name": str(card), "pooling": "mean"},
            "input": {"size": 224},
            "train": {"epochs": 0, "freeze": "backbone"},
        }
    )
    train, val = engine_features(recipe, table, start_of(recipe, table, Silent()), Silent())
    rows, values = (np.concatenate([getattr(part, name) for part in (train, val)]) for name in ("rows", "values"))
    if len(rows) != len(table):
        raise SystemExit("some images cannot be read")
    ordered = values[np.argsort(rows)]
    if kept is not None:
        np.savez(kept, values=ordered)
    return ordered


def estimate(features: Singles, table: ImageTable, strength: float, *, seed: int, folds: int = 5) -> NDArray[np.bool_]:
    """(N,) whether each image is recognized by the head that was fitted without its fold."""
    labels, classes = table.label_array(), len(table.labels)
    fold = with_folds(table, folds, seed=seed).frame[FOLD].to_numpy()
    right = np.zeros(len(table), bool)
    for number in range(folds):
        held = fold == number
        head = fit_head(features[~held], labels[~held], classes, strength=strength)
        right[held] = head.logits(features[held]).argmax(axis=1) == labels[held]
    return right


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--known", type=float, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--features", type=Path)
    given = parser.parse_args()
    table = images(given.images)
    table = scan(table.select((table.frame["split"] != "test").to_numpy()))
    features = features_of(table, given.card, given.features)
    labels, classes = table.label_array(), len(table.labels)
    train, val = table.split_rows("train"), table.split_rows("val")
    choice = choose_strength(features[train], labels[train], features[val], labels[val], classes)
    official = (choice.head.logits(features[val]).argmax(axis=1) == labels[val]).mean()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    related = relate(table, Silent(), unit)
    print("\n".join(related.bursts.evidence))
    pooled = related.table.with_columns({"split": [None] * len(table)})
    ways = {
        "random folds": pooled.with_columns({NEAR: [None] * len(table), BURST: [None] * len(table)}),
        "folds of units, order and tiny pictures alone": relate(table, Silent()).table.with_columns(
            {"split": [None] * len(table)}
        ),
        "folds of units, with what the network sees": pooled,
    }
    print("| estimate by | units | accuracy, mean (range) of seeds | points off the test |\n|---|---|---|---|")
    for words, way in ways.items():
        found = [float(estimate(features, way, choice.strength, seed=seed).mean()) for seed in range(given.seeds)]
        mean, count = float(np.mean(found)), len(np.unique(units(way)))
        spread = f"{mean:.1%} ({min(found):.1%} to {max(found):.1%})"
        print(f"| {words} | {count:,} | {spread} | {100 * (mean - given.known):+.1f} |", flush=True)
    print(f"| official validation, {len(val)} images | | {official:.1%} | {100 * (official - given.known):+.1f} |")
    print(f"| official test, known | | {given.known:.1%} | |")
    alone = classes_of_one_unit(labels, units(pooled), classes)
    print(f"classes of one unit: {len(alone)}; images of them: {int(np.isin(labels, alone).sum())}")


if __name__ == "__main__":
    main()
