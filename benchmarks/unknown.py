"""Does the unknown score know strangers: other data sets, families and classes that were left out of training?

    SORTAL_ZOO=CARDS python benchmarks/unknown.py GROCERY --card mobilenet_edgetpu_100 --far X-SDD=DIR CIFAR-10=DIR \
        [--far-images 120] [--draws 5] [--features DIR] [--only far families classes sets]

GROCERY has splits and a taxonomy. Frozen features of the card, a ridge head on them with the penalty and factor that
validation images choose, calibrated on validation images, and the unknown score as `sortal train` fits it (method and
space chosen by left-out classes, threshold at 1 % false alarms): all from training and validation images. Then the
test images of known classes are held against strangers. The baseline is the highest probability of the same
calibrated head. Differences of areas under the ROC curve have paired intervals (DeLong et al. 1988); over draws, means.

`sets`: prediction sets at 90 % on the test images, half of them for calibration, 20 times. `--features` keeps features.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.conformal import conformal_scores
from sortal.core.decision import DecisionSpec, probabilities
from sortal.evaluate.measure.ranking import roc_auc
from sortal.evaluate.trust.calibration import calibrate
from sortal.evaluate.unknown import METHODS
from sortal.evaluate.unknown.fit import KnownImages, UnknownFit, fit_unknown
from sortal.evaluate.unknown.odds import log_odds
from sortal.evaluate.unknown.ridge import QuickHead, fit_quick_head
from sortal.evaluate.unknown.threshold import threshold_for

Ints = NDArray[np.int64]
Singles = NDArray[np.float32]
RATE = 0.01
Z = 1.959964


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Embeddings (N, D) and labels (N,) of one split."""

    values: Singles
    labels: Ints

    def of(self, classes: Ints) -> Seen:
        """The images of some classes, numbered anew."""
        rows = np.isin(self.labels, classes)
        return Seen(values=self.values[rows], labels=np.searchsorted(classes, self.labels[rows]))


@dataclass(frozen=True, kw_only=True)
class Model:
    """A head and an unknown score, fitted on training and validation images."""

    head: QuickHead
    decision: DecisionSpec
    unknown: UnknownFit

    def scores(self, values: Singles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) unknown scores, and the baseline's."""
        logits = self.head.logits(values)
        own = METHODS.get(self.unknown.method).score(self.unknown.parameters, values, logits)
        calibrated = logits / self.decision.temperature
        bias = 0.0 if self.decision.bias is None else np.asarray(self.decision.bias)
        return own, log_odds(calibrated.astype(np.float64) + bias)


def fit(train: Seen, val: Seen, families: Ints | None, seed: int) -> Model:
    """As a run does, but for the head, of which ridge regression alone is tried."""
    classes = int(train.labels.max()) + 1
    head = fit_quick_head(train.values, train.labels, val.values, val.labels, classes)
    logits = head.logits(val.values)
    decision = calibrate(logits, val.labels).decision()
    known = KnownImages(embeddings=val.values, logits=logits, labels=val.labels)
    unknown = fit_unknown(
        train.values,
        train.labels,
        known,
        rate=RATE,
        families=families,
        temperature=decision.temperature,
        bias=decision.bias,
        seed=seed,
    )
    if unknown is None:
        raise SystemExit("too few images")
    return Model(head=head, decision=decision, unknown=unknown)


def held_against(model: Model, known: Singles, strange: Singles) -> dict[str, float | str]:
    """Areas under the ROC curve of the score and the baseline, their difference with an interval, rates."""
    pairs = [np.concatenate(pair) for pair in zip(model.scores(known), model.scores(strange), strict=True)]
    positive = np.arange(len(known) + len(strange)) >= len(known)
    (own, one), (base, other) = (roc_auc(scores, positive) for scores in pairs)
    error = float(np.sqrt(np.square(one - other).sum()))
    loose = threshold_for(model.unknown.known_scores, 0.05).value
    return {
        "method": model.unknown.chosen.name,
        "auroc": own,
        "error": float(np.sqrt(np.square(one).sum())),
        "max_softmax": base,
        "gain": own - base,
        "gain_low": own - base - Z * error,
        "gain_high": own - base + Z * error,
        "false_alarms": float((pairs[0][~positive] > model.unknown.threshold).mean()),
        "found": float((pairs[0][positive] > model.unknown.threshold).mean()),
        "false_alarms_at_5": float((pairs[0][~positive] > loose).mean()),
        "found_at_5": float((pairs[0][positive] > loose).mean()),
        "known": len(known),
        "strange": len(strange),
    }


def far(world: dict[str, Seen], strangers: dict[str, Singles], families: Ints | None) -> None:
    """Other data sets against the model of all classes."""
    model = fit(world["train"], world["val"], families, 0)
    print(json.dumps({"validation": model.unknown.facts}), flush=True)
    for name, values in strangers.items():
        show(f"far {name}", held_against(model, world["test"].values, values))
    show("far, all", held_against(model, world["test"].values, np.concatenate(list(strangers.values()))))


def left_out(world: dict[str, Seen], families: Ints, *, draws: int, whole_families: bool) -> None:
    """A quarter of the families, or of the classes, is left out of training and validation."""
    rows = []
    present = np.unique(world["train"].labels)
    for draw in range(draws):
        generator = np.random.default_rng([2026, draw])
        kinds = np.unique(families[present])
        if whole_families:
            out = present[np.isin(families[present], generator.permutation(kinds)[: round(len(kinds) / 4)])]
        else:
            out = generator.permutation(present)[: round(len(present) / 4)]
        kept = np.setdiff1d(present, out)
        model = fit(world["train"].of(kept), world["val"].of(kept), families[kept], draw)
        test = world["test"]
        found = held_against(model, test.of(kept).values, test.values[np.isin(test.labels, out)])
        show(f"{'families' if whole_families else 'classes'} {draw} ({len(out)} classes out)", found)
        rows.append(found)
    show("mean", mean_of(rows))


def mean_of(rows: list[dict[str, float | str]]) -> dict[str, float | str]:
    """Of the draws. They share test images, so errors do not average out: the mean error stands for the mean."""
    found: dict[str, float | str] = {
        key: float(np.mean([float(row[key]) for row in rows])) for key in rows[0] if key != "method"
    }
    found["better"] = f"{sum(float(row['gain_low']) > 0 for row in rows)} of {len(rows)} beyond their interval"
    return found


def sets(world: dict[str, Seen]) -> None:
    """Prediction sets at 90 %: coverage and size over 20 halvings of the test images."""
    train, val, test = world["train"], world["val"], world["test"]
    head = fit_quick_head(train.values, train.labels, val.values, val.labels, int(train.labels.max()) + 1)
    decision = calibrate(head.logits(val.values), val.labels).decision()
    chances = probabilities(decision, head.logits(test.values))
    rows = np.arange(len(test.labels))
    for by_class in (False, True):
        covered, sizes, empty = [], [], []
        for seed in range(20):
            order = np.random.default_rng(seed).permutation(len(rows))
            one, other = order[: len(rows) // 2], order[len(rows) // 2 :]
            chosen = conformal_scores(chances[one], test.labels[one]).sets(chances[other], 0.9, by_class=by_class)
            covered.append(chosen[np.arange(len(other)), test.labels[other]].mean())
            sizes.append(chosen.sum(axis=1).mean())
            empty.append((chosen.sum(axis=1) == 0).mean())
        print(
            f"sets at 90 %{' by class' if by_class else ''}: {len(rows) // 2:,} calibration images, covered "
            f"{np.mean(covered):.4f} ({np.min(covered):.4f} to {np.max(covered):.4f}), mean size {np.mean(sizes):.2f}, "
            f"empty {np.mean(empty):.3f}, accuracy {(chances.argmax(1) == test.labels).mean():.4f}",
            flush=True,
        )


def show(name: str, found: dict[str, float | str]) -> None:
    """One line."""
    print(name, json.dumps({k: v if isinstance(v, str) else round(v, 4) for k, v in found.items()}), flush=True)


def features(
    source: Path, split: str | None, card: str, size: int, kept: Path | None, most: int | None
) -> tuple[Seen, Ints]:
    """Of one split, or of up to `most` images whatever their labels; and the coarse class of each class."""
    if kept is not None and kept.exists():
        found = np.load(kept)
        return Seen(values=found["values"], labels=found["labels"].astype(np.int64)), found["coarse"].astype(np.int64)
    from sortal.core.progress import Plain
    from sortal.core.recipe import load_recipe
    from sortal.data.open import images
    from sortal.data.scan import scan
    from sortal.frozen import _as_training
    from sortal.graphs import embedder
    from sortal.models.resolve import resolve
    from sortal.train.features import extract
    from sortal.train.fit import new_network
    from sortal.train.plan import make_plan

    table = scan(images(source))
    coarse = np.array(table.labels.coarse_index() or range(len(table.labels)), np.int64)
    rows = np.arange(len(table)) if split is None else table.split_rows(split)
    if most is not None and len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    if split is None:
        table = _as_training(table)
    recipe = load_recipe(None, {"train.epochs": 0, "model.name": card, "input.size": size})
    weights = resolve(card, "auto", offline=True)
    plan = make_plan(recipe, table, weights)
    network = new_network(recipe, table, weights, plan)
    with embedder(network, plan.preprocess(recipe), plan.threads) as extractor:
        made, _ = extract(
            table,
            rows,
            plan.preprocess(recipe),
            extractor,
            threads=plan.workers,
            listener=Plain(sys.stderr),
            stage=f"{source.name} {split or ''}",
        )
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, values=made.values, labels=made.labels, coarse=coarse)
    return Seen(values=made.values, labels=made.labels), coarse


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--card", default="mobilenet_edgetpu_100")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--far", nargs="*", default=[], metavar="NAME=DIR")
    parser.add_argument("--far-images", type=int, default=120)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--only", nargs="*", default=["far", "families", "classes", "sets"])
    asked = parser.parse_args()

    def kept(name: str) -> Path | None:
        return None if asked.features is None else asked.features / f"{name}.npz"

    world, coarse = {}, np.zeros(0, np.int64)
    for split in ("train", "val", "test"):
        world[split], coarse = features(asked.images, split, asked.card, asked.size, kept(split), None)
    if "far" in asked.only:
        strangers = {}
        for item in asked.far:
            name, _, folder = item.partition("=")
            found, _ = features(Path(folder), None, asked.card, asked.size, kept(name), asked.far_images)
            strangers[name] = found.values
        far(world, strangers, coarse)
    if "sets" in asked.only:
        sets(world)
    for kind in ("families", "classes"):
        if kind in asked.only:
            left_out(world, coarse, draws=asked.draws, whole_families=kind == "families")


if __name__ == "__main__":
    main()
