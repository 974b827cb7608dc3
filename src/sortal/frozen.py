"""Frozen features of any images by a weights card, on an engine, kept in the cache: for audits, where there is no split
and there may be no label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.core.progress import Listener
from sortal.core.recipe import load_recipe
from sortal.core.report import Finding
from sortal.data.table import ImageTable
from sortal.graphs import embedder
from sortal.models.resolve import ModelSource, resolve
from sortal.train.context import feature_key
from sortal.train.features import extract
from sortal.train.fit import new_network
from sortal.train.plan import make_plan


def card_features(
    table: ImageTable, rows: NDArray[np.int64], card: str, listener: Listener
) -> tuple[NDArray[np.float32], str, tuple[Finding, ...]]:
    """(N, D) features of the `rows` of a scanned table (NaN in all others), the name of the network, and findings.

    `card` is the name or path of a weights card; `auto` takes the card that training would try first. Raises
    WeightsError for a card that cannot be used.
    """
    recipe = load_recipe(None, {"train.epochs": 0, "model.name": card})
    source = resolve(card, "auto", offline=True, say=listener.say)
    pretended = _as_training(table)
    plan = make_plan(recipe, pretended, source)
    network = new_network(recipe, pretended, source, plan)
    spec = plan.preprocess(recipe)
    with embedder(network, spec, plan.threads) as extractor:
        features, found = extract(
            pretended,
            rows,
            spec,
            extractor,
            threads=plan.workers,
            listener=listener,
            stage=f"seeing through {_name(source)}",
            key=feature_key(source, recipe, "onnxruntime", network.pooling.kind),
        )
    values = np.full((len(table), features.values.shape[1]), np.nan, np.float32)
    values[features.rows] = features.values
    return values, _name(source), found


def _as_training(table: ImageTable) -> ImageTable:
    """The same images as training images of one class: an audit looks at unlabeled images too."""
    relabeled = replace(table, labels=LabelSet(names=("image",)))
    return relabeled.with_columns({"label": np.zeros(len(table), np.int64), "split": ["train"] * len(table)})


def _name(source: ModelSource) -> str:
    return source.architecture if source.card is None else Path(source.card).stem
