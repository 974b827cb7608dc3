"""`model=auto` with several pretrained networks at hand: each is tried by a linear head on its frozen features.

Validation images decide; test images are not looked at. Features are cached, so trying a network is not lost time for
the run that follows. A network that answers too slowly for `model.max_latency_ms` on this machine is left out.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import RecipeError, SortalError
from sortal.core.preprocess import normalize
from sortal.core.progress import Listener, duration
from sortal.core.recipe import Recipe
from sortal.data.table import ImageTable
from sortal.export.graph import export_onnx
from sortal.models.cards import StoredCard, zoo_cards
from sortal.models.resolve import ModelSource, resolve
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.train.context import feature_key
from sortal.train.features import Features, extract
from sortal.train.fit import new_network
from sortal.train.plan import Plan, make_plan
from sortal.train.probe import choose_strength
from sortal.train.scores import Scores, score
from sortal.train.store import read_image

IMAGES = 1500
"""Of the training images, so many are enough to tell networks apart; spread evenly over the table."""
TIME_SHARE = 0.15
"""Of a time budget, trying networks may take at most so much."""
_TIMED = 9


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One network and how it did."""

    source: ModelSource
    scores: Scores
    latency_ms: float
    """Median of one image at a time on ONNX Runtime, all threads, preprocessing left out."""
    took_s: float


def choose_model(recipe: Recipe, table: ImageTable, listener: Listener) -> ModelSource | None:
    """The best of the weights cards at hand for these images, None where there is nothing to choose between.

    Raises RecipeError where every network is slower than `model.max_latency_ms`.
    """
    cards = _candidates(recipe)
    if len(cards) < 2 or not len(table.split_rows("val")):
        return None
    begun_s, tried = time.monotonic(), list[Tried]()
    for stored in cards:
        if _too_long(recipe, tried, time.monotonic() - begun_s):
            listener.say(f"model=auto: {stored.card.architecture} is not tried, the time budget is too short")
            continue
        try:
            tried.append(_try(recipe, table, stored, listener))
        except SortalError as error:
            listener.say(f"model=auto: {stored.path} is left out: {error.what}")
    return _best(recipe, tried) if tried else None


def _candidates(recipe: Recipe) -> list[StoredCard]:
    """One card for each weights file; the smallest first, so that a short budget tries the quick ones."""
    if recipe.model.name != "auto" or recipe.model.weights != "auto":
        return []
    known = {stored.card.sha256: stored for stored in reversed(zoo_cards()) if stored.weights_path.is_file()}
    return sorted(known.values(), key=lambda stored: stored.weights_path.stat().st_size)


def _too_long(recipe: Recipe, tried: list[Tried], used_s: float) -> bool:
    if recipe.train.time is None or not tried:
        return False
    return used_s + max(one.took_s for one in tried) > TIME_SHARE * recipe.train.time


def _try(recipe: Recipe, table: ImageTable, stored: StoredCard, listener: Listener) -> Tried:
    begun_s = time.monotonic()
    source = resolve(str(stored.path), "auto", recipe.model.arguments)
    plan = make_plan(recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 0})}), table, source)
    name = stored.card.architecture
    with tempfile.TemporaryDirectory(prefix="sortal-") as folder:
        network = new_network(recipe, table, source, plan)
        graph = export_onnx(network, plan.preprocess(recipe), Path(folder) / "model.onnx")
        engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=plan.threads)
        try:
            train, val = (
                _features(recipe, table, plan, engine, split, source, name, listener) for split in ("train", "val")
            )
            latency_ms = _latency_ms(recipe, table, plan, engine)
        finally:
            engine.close()
    classes = len(table.labels)
    choice = choose_strength(train.values, train.labels, val.values, val.labels, classes)
    scores = score(choice.head.logits(val.values), val.labels)
    listener.say(
        f"model=auto: {name}: accuracy {scores.accuracy:.4f}, macro F1 {scores.macro_f1:.4f} on validation images, "
        f"{latency_ms:.1f} ms an image ({duration(time.monotonic() - begun_s)})"
    )
    return Tried(source=source, scores=scores, latency_ms=latency_ms, took_s=time.monotonic() - begun_s)


def _features(
    recipe: Recipe,
    table: ImageTable,
    plan: Plan,
    engine: Engine,
    split: str,
    source: ModelSource,
    name: str,
    listener: Listener,
) -> Features:
    rows = table.split_rows(split)
    if split == "train" and len(rows) > IMAGES:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, IMAGES).astype(np.int64))]
    found, _ = extract(
        table,
        rows,
        plan.preprocess(recipe),
        lambda batch: engine.run(batch).embedding,
        threads=plan.workers,
        listener=listener,
        stage=f"{name}: features of {split} images",
        key=feature_key(source, recipe, "onnxruntime", plan.pooling),
    )
    return found


def _latency_ms(recipe: Recipe, table: ImageTable, plan: Plan, engine: Engine) -> float:
    spec = plan.preprocess(recipe)
    image = _first_readable(table, table.split_rows("val"), plan, recipe)
    batch, times_s = normalize(spec, image[None]), list[float]()
    for _ in range(_TIMED + 1):
        begun_s = time.perf_counter()
        engine.run(batch)
        times_s.append(time.perf_counter() - begun_s)
    return float(np.median(times_s[1:]) * 1000)


def _first_readable(table: ImageTable, rows: NDArray[np.int64], plan: Plan, recipe: Recipe) -> NDArray[np.uint8]:
    for row in rows[:-1]:
        try:
            return np.asarray(read_image(table, int(row), plan.preprocess(recipe)))
        except SortalError:
            continue
    return np.asarray(read_image(table, int(rows[-1]), plan.preprocess(recipe)))


def _best(recipe: Recipe, tried: list[Tried]) -> ModelSource:
    limit_ms = recipe.model.max_latency_ms
    quick = [one for one in tried if limit_ms is None or one.latency_ms <= limit_ms]
    if not quick:
        fastest = min(tried, key=lambda one: one.latency_ms)
        raise RecipeError(
            "no network at hand answers as quickly as asked",
            where="model.max_latency_ms",
            received=f"{limit_ms:g}; the quickest needs {fastest.latency_ms:.1f} ms ({fastest.source.architecture})",
            hint="allow more time, or give a smaller input.size",
        )
    best = quick[0]
    for one in quick[1:]:
        best = one if one.scores.better(best.scores, recipe.train.metric) else best
    shown = ", ".join(
        f"{one.source.architecture} {getattr(one.scores, recipe.train.metric):.4f} in {one.latency_ms:.1f} ms"
        for one in tried
    )
    note = f"model=auto: {best.source.architecture}, the best {recipe.train.metric} by a probe on validation ({shown})."
    return replace(best.source, name="auto", notes=(note, *best.source.notes))
