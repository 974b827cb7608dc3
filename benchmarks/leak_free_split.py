"""How high an accuracy is estimated by random folds, by folds that cut no burst, and by the official validation split;
beside it what the same head on the same features reaches on the official test.

    python benchmarks/leak_free_split.py IMAGES --card CARD.yaml [--seeds 0 1 2] [--pooling mean] [--features FILE.npz]

IMAGES has an official train, val and test split. Train and val are pooled and related without the test, whose images
are embedded but looked at only for the last number: the head fitted on the whole pool, with the penalty of the
estimates. The head is a multinomial regression whose penalty is chosen on the official validation images once;
`--strength` gives it. Images whose class is a single unit can never be right where they are held out; how many there
are is printed. `--features` keeps the features for the next time.
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


def features_of(table: ImageTable, card: Path, pooling: str, kept: Path | None) -> Singles:
    """(N, D) frozen features at 224 px of all rows."""
    if kept is not None and kept.is_file():
        return np.asarray(np.load(kept)["values"])
    recipe = Recipe.model_validate(
        {
            "model": {"name": str(card), "pooling": pooling},
            "input": {"size": 224},
            "train": {"epochs": 0, "freeze": "backbone"},
        }
    )
    tested = (table.frame["split"] == "test").to_numpy()
    two = table.with_columns({"split": np.where(tested, "val", "train")})
    parts = engine_features(recipe, two, start_of(recipe, two, Silent()), Silent())
    rows, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "values"))
    if len(rows) != len(table):
        raise SystemExit("some images cannot be read")
    ordered: Singles = values[np.argsort(rows)]
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


def judged_on_test(features: Singles, labels: Ints, tested: NDArray[np.bool_], classes: int, strength: float) -> float:
    """The accuracy on the official test of a head fitted on everything else."""
    head = fit_head(features[~tested], labels[~tested], classes, strength=strength)
    return float((head.logits(features[tested]).argmax(axis=1) == labels[tested]).mean())


def ways_of(table: ImageTable, features: Singles) -> dict[str, ImageTable]:
    """The pool without its splits, by what is kept together; prints what was found to belong together."""
    related = relate(table, Silent(), features / np.linalg.norm(features, axis=1, keepdims=True))
    print("\n".join(related.bursts.evidence))
    nothing = [None] * len(table)
    return {
        "random folds": related.table.with_columns({"split": nothing, NEAR: nothing, BURST: nothing}),
        "folds of units, without a network": relate(table, Silent()).table.with_columns({"split": nothing}),
        "folds of units, with what the network sees": related.table.with_columns({"split": nothing}),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pooling", default="mean", choices=("mean", "sqrt", "stages"))
    parser.add_argument("--strength", type=float)
    parser.add_argument("--features", type=Path)
    given = parser.parse_args()
    whole = scan(images(given.images))
    everything = features_of(whole, given.card, given.pooling, given.features)
    tested = (whole.frame["split"] == "test").to_numpy()
    table, features, classes = whole.select(~tested), everything[~tested], len(whole.labels)
    labels, train, val = table.label_array(), table.split_rows("train"), table.split_rows("val")
    strength = given.strength
    if strength is None:
        strength = choose_strength(features[train], labels[train], features[val], labels[val], classes).strength
    head = fit_head(features[train], labels[train], classes, strength=strength)
    official = float((head.logits(features[val]).argmax(axis=1) == labels[val]).mean())
    known = judged_on_test(everything, whole.label_array(), tested, classes, strength)
    print(f"{features.shape[1]} features, penalty {strength:g}")
    print(f"| official test, {int(tested.sum()):,} images, the same head on all others | | {known:.1%} | |")
    print(
        f"| official validation, {len(val)} images | | {official:.1%} | {100 * (official - known):+.1f} |", flush=True
    )
    ways = ways_of(table, features)
    print("| estimate by | units | accuracy, mean (each seed) | points off the test |\n|---|---|---|---|")
    for words, way in ways.items():
        found = [float(estimate(features, way, strength, seed=seed).mean()) for seed in given.seeds]
        mean, each = float(np.mean(found)), ", ".join(f"{one:.1%}" for one in found)
        print(
            f"| {words} | {len(np.unique(units(way))):,} | {mean:.1%} ({each}) | {100 * (mean - known):+.1f} |",
            flush=True,
        )
    pooled = units(ways["folds of units, with what the network sees"])
    alone = classes_of_one_unit(labels, pooled, classes)
    print(f"classes of one unit: {len(alone)}; images of them: {int(np.isin(labels, alone).sum())}")


if __name__ == "__main__":
    main()
