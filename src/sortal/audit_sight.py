"""What a network sees in the images of an audit: features, and where a run is given its own answers.

A run or bundle is looked through on its engine, without torch. Else the weights card at hand that `model=auto` would
take first is used, where the extra `train` is installed; its features are kept in the cache. Else there are none, and
the audit says what was not looked for. Above MOST_IMAGES a sample is seen.

Shapes: N rows of the table, D numbers of a feature, K classes.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions
from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.data.table import ImageTable, finding

MOST_IMAGES = 100_000
"""Images up to which all are seen; of more, so many."""
Singles = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """What was seen, by what, and what there is to say about it."""

    by: str
    """A card, a model, or `none`."""
    features: Singles | None = None
    """(N, D) of unit length; rows of NaN where nothing was seen."""
    answers: Singles | None = None
    """(N, K) probabilities of the model itself; rows of NaN where it has trained on the image or cannot say."""
    findings: tuple[Finding, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every row was seen."""
        return self.features is not None and bool(np.isfinite(self.features).all())

    def with_own_answers(self, probabilities: Singles) -> Singles:
        """(N, K) with the model's own answers in the rows where it has any."""
        if self.answers is None:
            return probabilities
        own = np.isfinite(self.answers).all(axis=1, keepdims=True)
        return np.where(own, self.answers, probabilities)


def see(table: ImageTable, *, model: Path | None, features: str, listener: Listener) -> Sight:
    """Look at the images of a scanned table. `features` is `auto`, `none`, or the name or path of a weights card."""
    if not len(table) or (features == "none" and model is None):
        return Sight(by="none", findings=_unseen("features were not asked for", None) if len(table) else ())
    rows, sampled = _sample(table)
    if model is not None:
        return _through_model(table, rows, model, listener, sampled)
    missing = _missing()
    if missing is not None and features == "auto":
        return Sight(by="none", findings=_unseen(*missing))
    return _through_card(table, rows, features, listener, sampled)


def _sample(table: ImageTable) -> tuple[NDArray[np.int64], tuple[Finding, ...]]:
    if len(table) <= MOST_IMAGES:
        return np.arange(len(table)), ()
    generator = np.random.Generator(np.random.Philox(key=0))
    rows = np.sort(generator.permutation(len(table))[:MOST_IMAGES])
    message = f"label errors and outliers were looked for in a sample of {MOST_IMAGES:,} of {len(table):,} images"
    return rows, (finding("sampled", "info", message, hint="audit parts of the images one by one to see all of them"),)


def _unseen(why: str, hint: str | None) -> tuple[Finding, ...]:
    message = f"label errors and outliers were not looked for: {why}"
    return (finding("not_looked_for", "info", message, hint=hint),)


def _missing() -> tuple[str, str] | None:
    """Why no card can be used, and what to do."""
    if any(find_spec(package) is None for package in ("torch", "timm", "onnx")):
        return "there is no network at hand", 'pip install "sortal[train]", or give a trained run with --model'
    from sortal.models.cards import zoo_cards

    if not any(stored.weights_path.is_file() for stored in zoo_cards()):
        hint = "name a folder of weights cards in SORTAL_ZOO (see sortal models), or give a trained run with --model"
        return "no weights are at hand", hint
    return None


def _through_card(
    table: ImageTable, rows: NDArray[np.int64], features: str, listener: Listener, sampled: tuple[Finding, ...]
) -> Sight:
    from sortal.asked import need

    for package in ("torch", "timm", "onnx"):
        need(package, "train")
    from sortal.frozen import card_features

    values, name, found = card_features(table, rows, features, listener)
    return Sight(by=name, features=_unit(values), findings=(*found, *sampled))


def _through_model(
    table: ImageTable, rows: NDArray[np.int64], model: Path, listener: Listener, sampled: tuple[Finding, ...]
) -> Sight:
    from sortal.runtime.classifier import open_classifier

    with open_classifier(model) as classifier:
        predictions, embeddings = classifier.predict_outputs(
            table.select(rows), progress=lambda done, total: listener.progress("seeing through the model", done, total)
        )
        answers = _spread(_answers(predictions, classifier.labels, table.labels), rows, len(table))
    trained = _trained_on(model)
    if answers is not None and trained is not None:
        known = np.isin(table.frame["digest"].to_numpy().astype(str), np.array(sorted(trained), dtype=str))
        answers[known] = np.nan
    values = _spread(embeddings, rows, len(table))
    own = answers if trained is not None else None
    return Sight(by=str(model), features=None if values is None else _unit(values), answers=own, findings=sampled)


def _answers(predictions: Predictions, known: LabelSet, asked: LabelSet) -> Singles | None:
    """Probabilities over the table's classes, None unless the model knows them all."""
    places = known.mapping_from(asked)
    if not places or min(places) < 0:
        return None
    chosen = predictions.probabilities[:, places]
    return np.asarray(chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1e-12), np.float32)


def _spread(values: Singles | None, rows: NDArray[np.int64], count: int) -> Singles | None:
    if values is None or not values.shape[1]:
        return None
    spread = np.full((count, values.shape[1]), np.nan, np.float32)
    spread[rows] = values
    return spread


def _trained_on(model: Path) -> set[str] | None:
    """Content digests of the images that a run was fitted on or chosen by; None where that is not known."""
    for folder in (model, model.absolute().parent):
        if (folder / "split.csv").is_file() and (folder / "bundle").is_dir():
            with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
                return {row["digest"] for row in csv.DictReader(file) if row["split"] in ("train", "val")}
    return None


def _unit(values: Singles) -> Singles:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, 1e-12), np.float32)
