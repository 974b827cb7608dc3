"""How high an accuracy is estimated by random folds, by folds that cut no burst, and by the official validation split;
beside it what the same head on the same features reaches on the official test.

    python benchmarks/leak_free_split.py IMAGES --card CARD.yaml [--seeds 0 1 2] [--pooling stages] [--head ridge]

IMAGES has an official train, val and test split. Train and val are pooled and related without the test, whose images
are embedded but looked at only for the last number: the head fitted on the whole pool, with the penalty of the
estimates. The head is that of the audit (ridge regression on features of unit length) or that of a probe (`--head
regression`, a multinomial one: minutes for each fold); its penalty is chosen on the official validation images once, or
given by `--strength`. Images whose class is a single unit can never be right where they are held out; how many there
are is printed. `--features FILE.npz` keeps the features for the next time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.progress import Silent
from sortal.core.recipe import Recipe
from sortal.data.folds import FOLD, classes_of_one_unit, with_folds
from sortal.data.held_out import collect, held_out_scores, scores_of_fold
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.data.units import LINKS, units
from sortal.divide import relate
from sortal.evaluate.folds import STRENGTHS
from sortal.graphs import engine_features
from sortal.start import start_of
from sortal.train.probe import choose_strength, fit_head

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Singles = NDArray[np.float32]
FOLDS = 5


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


def recognized(features: Singles, labels: Ints, fold: Ints, classes: int, head: str, strength: float) -> Flags:
    """(N,) whether each image is recognized by the head that was fitted on all other folds."""
    if head == "ridge":
        scores = held_out_scores(features, labels, fold, classes, strength=strength)
        return np.asarray(scores.argmax(axis=1) == labels)
    right = np.zeros(len(labels), bool)
    for held in (fold == number for number in np.unique(fold)):
        fitted = fit_head(features[~held], labels[~held], classes, strength=strength)
        right[held] = fitted.logits(features[held]).argmax(axis=1) == labels[held]
    return right


def apart(features: Singles, labels: Ints, held: Flags, classes: int, head: str, strength: float) -> float:
    """The accuracy on the images (N,) that are `held`, of the head fitted on all others."""
    if head == "ridge":
        sums = collect(features, labels, held.astype(np.int64), classes)
        return float((scores_of_fold(sums, features[held], 1, strength).argmax(axis=1) == labels[held]).mean())
    fitted = fit_head(features[~held], labels[~held], classes, strength=strength)
    return float((fitted.logits(features[held]).argmax(axis=1) == labels[held]).mean())


def chosen_strength(features: Singles, labels: Ints, val: Flags, classes: int, head: str) -> float:
    """The penalty that is best on the validation images."""
    if head == "ridge":
        return max(STRENGTHS, key=lambda strength: apart(features, labels, val, classes, head, strength))
    return choose_strength(features[~val], labels[~val], features[val], labels[val], classes).strength


def ways_of(table: ImageTable, features: Singles) -> dict[str, ImageTable]:
    """The pool without its splits, by what is kept together; prints what was found to belong together."""
    related = relate(table, Silent(), features / np.linalg.norm(features, axis=1, keepdims=True))
    print("\n".join([*related.bursts.evidence, *(found.message for found in related.bursts.findings(table))]))
    nothing = [None] * len(table)
    links = [name for name in LINKS if name != "digest" and name in related.table.frame.columns]
    return {
        "random folds": related.table.with_columns(dict.fromkeys(["split", *links], nothing)),
        "folds of units, without a network": relate(table, Silent()).table.with_columns({"split": nothing}),
        "folds of units, with what the network sees": related.table.with_columns({"split": nothing}),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pooling", default="stages", choices=("mean", "sqrt", "stages"))
    parser.add_argument("--head", default="ridge", choices=("ridge", "regression"))
    parser.add_argument("--strength", type=float)
    parser.add_argument("--features", type=Path)
    given = parser.parse_args()
    whole = scan(images(given.images))
    everything = features_of(whole, given.card, given.pooling, given.features)
    unit = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    everything = unit if given.head == "ridge" else everything
    tested = (whole.frame["split"] == "test").to_numpy()
    table, features, classes = whole.select(~tested), everything[~tested], len(whole.labels)
    labels, val = table.label_array(), (table.frame["split"] == "val").to_numpy()
    strength = given.strength or chosen_strength(features, labels, val, classes, given.head)
    official = apart(features, labels, val, classes, given.head, strength)
    known = apart(everything, whole.label_array(), tested, classes, given.head, strength)
    print(f"{features.shape[1]} features, {given.head}, penalty {strength:g}")
    print("| estimate by | units | accuracy, mean (each seed) | points off the test |\n|---|---|---|---|")
    print(f"| official test, {int(tested.sum()):,} images, the same head on all others | | {known:.1%} | |")
    print(
        f"| official validation, {int(val.sum())} images | | {official:.1%} | {100 * (official - known):+.1f} |",
        flush=True,
    )
    ways = ways_of(table, unit[~tested])
    for words, way in ways.items():
        found = []
        for seed in given.seeds:
            fold = with_folds(way, FOLDS, seed=seed).frame[FOLD].to_numpy().astype(np.int64)
            found.append(float(recognized(features, labels, fold, classes, given.head, strength).mean()))
        mean, each = float(np.mean(found)), ", ".join(f"{one:.1%}" for one in found)
        row = f"{words} | {len(np.unique(units(way))):,} | {mean:.1%} ({each}) | {100 * (mean - known):+.1f}"
        print(f"| {row} |", flush=True)
    pooled = units(ways["folds of units, with what the network sees"])
    alone = classes_of_one_unit(labels, pooled, classes)
    print(f"classes of one unit: {len(alone)}; images of them: {int(np.isin(labels, alone).sum())}")


if __name__ == "__main__":
    main()
