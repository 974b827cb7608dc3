"""How many planted label errors are found, beside cleanlab on the same features.

    python benchmarks/label_errors.py IMAGES --card CARD.yaml [--share 0.05] [--seeds 0 1 2 3 4] [--peer PYTHON]

Flips the labels of a share of the images to another class of the same coarse class (of any class where there is no
taxonomy), or takes a generated set whose `truth.csv` knows which are wrong (`sortal synth --label-noise`). The test
split is left out. Prints precision at the number planted and average precision for each seed, their mean and standard
deviation. `--features FILE.npz` keeps the features for the next time. `--peer` is the Python of an environment with
cleanlab, scikit-learn and datasets; `peers/cleanlab_issues.py` says what it tries.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.data.checks.labels import suspects
from sortal.data.checks.material import Limits
from sortal.data.open import images
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.data.units import units
from sortal.evaluate.folds import out_of_fold

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]


def features_of(table: ImageTable, card: Path, size: int, pooling: str, kept: Path | None) -> Singles:
    """(N, D) of unit length, from the frozen backbone of a weights card."""
    if kept is not None and kept.exists():
        return np.asarray(np.load(kept)["features"])
    from sortal.core.progress import Plain
    from sortal.core.recipe import Recipe
    from sortal.models.resolve import resolve
    from sortal.train.features import extract, live_extractor
    from sortal.train.fit import new_network
    from sortal.train.plan import make_plan

    model = {"name": str(card), "pooling": pooling}
    recipe = Recipe.model_validate({"model": model, "input": {"size": size}, "train": {"epochs": 0}})
    source = resolve(recipe.model.name)
    table = table.with_columns({"split": ["train"] * len(table)})
    plan = make_plan(recipe, table, source)
    extractor = live_extractor(new_network(recipe, table, source, plan))
    rows = np.arange(len(table))
    found, findings = extract(
        table, rows, plan.preprocess(recipe), extractor, threads=1, listener=Plain(sys.stderr), stage="features"
    )
    if findings or len(found.rows) != len(table):
        raise SystemExit("some images cannot be read or have no label: clean the set first")
    values = found.values / np.linalg.norm(found.values, axis=1, keepdims=True)
    if kept is not None:
        np.savez(kept, features=values)
    return np.asarray(values, np.float32)


def planted(table: ImageTable, share: float, seed: int) -> tuple[Ints, NDArray[np.bool_]]:
    """(N,) labels of which a share is wrong, and which."""
    labels = table.label_array().copy()
    wrong = np.zeros(len(labels), bool)
    parents = np.array(table.labels.coarse_index() or [0] * len(table.labels))
    used = np.unique(labels)
    siblings = {
        label: [other for other in used if parents[other] == parents[label] and other != label] for label in used
    }
    random = np.random.default_rng(seed)
    can = np.flatnonzero([bool(siblings[label]) for label in labels])
    for row in random.permutation(can)[: round(share * len(labels))]:
        labels[row] = random.choice(siblings[labels[row]])
        wrong[row] = True
    return labels, wrong


def trials(
    table: ImageTable, source: Path, share: float, seeds: list[int]
) -> Iterator[tuple[int, Ints, NDArray[np.bool_]]]:
    """Seed, labels and which are wrong: planted, or those of a generated set."""
    truth = next((path for path in (source / "truth.csv", source.parent / "truth.csv") if path.is_file()), None)
    if truth is None:
        yield from ((seed, *planted(table, share, seed)) for seed in seeds)
        return
    known = pl.read_csv(truth).select(pl.col("path").alias("name"), pl.col("mislabeled").cast(pl.Boolean))
    short = table.name_series().str.split("/").list.tail(2).list.join("/")
    joined = pl.DataFrame({"name": short}).join(
        known.with_columns(pl.col("name").str.split("/").list.tail(2).list.join("/")),
        on="name",
        how="left",
        maintain_order="left",
    )
    for seed in seeds:
        yield seed, table.label_array(), joined["mislabeled"].fill_null(value=False).to_numpy()


def judged(score: NDArray[np.float64], wrong: NDArray[np.bool_]) -> tuple[float, float]:
    """Precision at the number planted, and average precision."""
    hits = wrong[np.argsort(-score, kind="stable")]
    average = (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].sum() / max(int(wrong.sum()), 1)
    return float(hits[: int(wrong.sum())].mean()), float(average)


def of_peer(python: Path, features: Singles, labels: Ints, probabilities: Singles) -> dict[str, list[float]]:
    """Scores of wrongness of every row, for each way the peer tries."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.npz"
        np.savez(path, features=features, labels=labels, probabilities=probabilities)
        script = Path(__file__).parent / "peers" / "cleanlab_issues.py"
        done = subprocess.run([str(python), str(script), str(path)], stdout=subprocess.PIPE, text=True, check=True)
    scores: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return scores


def main() -> None:
    """Plant, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--pooling", default="mean", choices=("mean", "sqrt", "stages"))
    parser.add_argument("--features", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--peer", type=Path)
    asked = parser.parse_args()
    table = images(asked.images)
    table = scan(table.select((table.frame["split"] != "test").fill_null(value=True).to_numpy()))
    features = features_of(table, asked.card, asked.size, asked.pooling, asked.features)
    together = units(table)
    print(f"{len(table):,} images, {len(table.labels)} classes, {features.shape[1]} features", flush=True)
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed, labels, wrong in trials(table, asked.images, asked.share, asked.seeds):
        begun_s = time.process_time()
        probabilities = out_of_fold(features, labels, together, len(table.labels), seed=seed)
        found = suspects(probabilities, labels, together)
        took_s = time.process_time() - begun_s
        listed = found.confidence >= Limits().label_error
        of_seed = {"sortal": judged(found.confidence, wrong)}
        if asked.peer is not None:
            scores = of_peer(asked.peer, features, labels, probabilities)
            of_seed |= {name: judged(np.array(score), wrong) for name, score in scores.items()}
        for name, result in of_seed.items():
            rows.setdefault(name, []).append(result)
            print(f"seed {seed}  {name:48} precision {result[0]:.4f}  average precision {result[1]:.4f}", flush=True)
        print(
            f"seed {seed}  planted {int(wrong.sum())}, listed {int(listed.sum())} of which wrong "
            f"{wrong[listed].mean():.2f}, counted by confident learning {int(found.wrong.sum())}, expected "
            f"{found.confidence.sum():.0f}; {took_s:.1f} s CPU"
        )
    for name, results in rows.items():
        precision, average = zip(*results, strict=True)
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in (precision, average)]
        print(
            f"{name:48} precision at the number planted {statistics.mean(precision):.4f} ± {spread[0]:.4f}   "
            f"average precision {statistics.mean(average):.4f} ± {spread[1]:.4f}"
        )


if __name__ == "__main__":
    main()
