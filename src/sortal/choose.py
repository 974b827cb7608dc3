"""`model=auto` with several pretrained networks at hand: each is tried by a linear head on its frozen features.

Validation images decide; test images are not looked at. Features are cached, so trying a network is not lost time for
the run that follows. A network that answers too slowly for `model.max_latency_ms` on this machine is left out. Under a
time budget every network gets the same share of a part of it, and all are compared on the images that all have seen.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import RecipeError, WeightsError
from sortal.core.preprocess import normalize
from sortal.core.progress import Listener, duration
from sortal.core.recipe import Recipe
from sortal.data.table import ImageTable
from sortal.export.graph import export_onnx
from sortal.models.cards import StoredCard, zoo_cards
from sortal.models.resolve import ModelSource, resolve
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.train.context import Context, feature_key
from sortal.train.features import Features, extract
from sortal.train.fit import new_network
from sortal.train.head_choice import choose_head, joined
from sortal.train.plan import Plan, make_plan
from sortal.train.randomness import generator
from sortal.train.scores import Scores, score
from sortal.train.store import read_image

IMAGES = 1500
"""Of the training images, and of the validation images, so many are enough to tell networks apart."""
TIME_SHARE = 0.15
"""Of a time budget, trying networks may take at most about so much."""
LEAST_IMAGES = 50
"""Training images below which a comparison says nothing."""
_CHUNK = 100
"""Images between two looks at the clock."""
_TIMED = 9


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network that is tried: open on an engine, with the features of the images it has seen."""

    source: ModelSource
    plan: Plan
    engine: Engine
    parts: tuple[int, ...]
    train: Features
    val: Features
    took_s: float

    @property
    def name(self) -> str:
        """As the log calls it."""
        return _name(self.source)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One network and how it did."""

    source: ModelSource
    scores: Scores | None
    """None where there was nothing to compare it with."""
    latency_ms: float
    """The least of several times of one image on ONNX Runtime, all threads, preprocessing left out: what else runs on
    a machine only ever adds time."""


def choose_model(recipe: Recipe, table: ImageTable, listener: Listener) -> ModelSource | None:
    """The best of the weights cards at hand for these images, None where there is nothing to choose between.

    Raises RecipeError where every network is slower than `model.max_latency_ms`.
    """
    cards, limit_ms = _candidates(recipe), recipe.model.max_latency_ms
    if len(cards) < (2 if limit_ms is None else 1):
        return None
    if not len(_labeled(table, "val")):
        listener.say("model=auto: without validation images networks are not compared, and no latency is looked at")
        return None
    with ExitStack() as stack:
        tried = _tried(recipe, table, _prepared(recipe, table, cards, listener, stack), listener)
    return _best(recipe, tried) if tried else None


def _candidates(recipe: Recipe) -> list[StoredCard]:
    """One card for each weights file; the smallest first, so that a short budget tries the quick ones."""
    if recipe.model.name != "auto" or recipe.model.weights != "auto":
        return []
    known = {stored.card.sha256: stored for stored in reversed(zoo_cards()) if stored.weights_path.is_file()}
    return sorted(known.values(), key=lambda stored: (stored.weights_path.stat().st_size, stored.card.sha256))


def _prepared(
    recipe: Recipe, table: ImageTable, cards: Sequence[StoredCard], listener: Listener, stack: ExitStack
) -> list[Candidate]:
    """The networks that could be opened and had time to see enough images."""
    begun_s, found = time.monotonic(), list[Candidate]()
    wanted = IMAGES if len(cards) > 1 else LEAST_IMAGES  # one alone is only asked how quick it is
    for number, stored in enumerate(cards, start=1):
        budget_s = recipe.train.time
        until_s = None if budget_s is None else begun_s + TIME_SHARE * budget_s * number / len(cards)
        if until_s is not None and time.monotonic() > until_s:
            listener.say(f"model=auto: {stored.path.stem} is not tried, the time budget is too short")
            continue
        try:
            candidate = stack.enter_context(_candidate(recipe, table, stored, wanted, until_s, listener))
        except WeightsError as error:
            listener.say(f"model=auto: {stored.path} is left out: {error.what}")
            continue
        if len(candidate.train.rows) < min(LEAST_IMAGES, len(_labeled(table, "train"))) or not len(candidate.val.rows):
            listener.say(f"model=auto: {candidate.name} is not compared, the time budget is too short")
            continue
        wanted = min(wanted, len(candidate.train.rows))
        found.append(candidate)
    return found


@contextmanager
def _candidate(
    recipe: Recipe, table: ImageTable, stored: StoredCard, wanted: int, until_s: float | None, listener: Listener
) -> Iterator[Candidate]:
    begun_s = time.monotonic()
    source = resolve(str(stored.path), "auto", recipe.model.arguments)
    plan = make_plan(recipe, table, source)
    network = new_network(recipe, table, source, plan)
    with tempfile.TemporaryDirectory(prefix="sortal-") as folder:
        graph = export_onnx(network, plan.preprocess(recipe), Path(folder) / "model.onnx")
        engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=plan.threads)
        try:
            key = feature_key(source, recipe, "onnxruntime", network.pooling.kind)
            look = _Look(recipe=recipe, table=table, plan=plan, engine=engine, key=key, until_s=until_s)
            val = look.features(
                "val",
                IMAGES if wanted > LEAST_IMAGES else wanted,
                f"{_name(source)}: features of validation images",
                listener,
            )
            train = look.features("train", wanted, f"{_name(source)}: features of training images", listener)
            yield Candidate(
                source=source,
                plan=plan,
                engine=engine,
                parts=network.pooling.parts,
                train=train,
                val=val,
                took_s=time.monotonic() - begun_s,
            )
        finally:
            engine.close()


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What the features of a candidate come from."""

    recipe: Recipe
    table: ImageTable
    plan: Plan
    engine: Engine
    key: str | None
    until_s: float | None
    """On `time.monotonic`."""

    def features(self, split: str, most: int, stage: str, listener: Listener) -> Features:
        """Of up to `most` images in an order that is the same for every network, as far as time allows."""
        rows, found = _shuffled(self.table, split)[:most], list[Features]()
        step = len(rows) if self.until_s is None else _CHUNK
        for begin in range(0, len(rows), max(1, step)):
            if self.until_s is not None and time.monotonic() > self.until_s:
                break
            found.append(self._extract(rows[begin : begin + step], stage, listener))
        kept = [part for part in found if len(part.rows)]
        if not kept:
            return Features(values=np.zeros((0, 0), np.float32), labels=np.zeros(0, np.int64), rows=rows[:0])
        together = kept[0]
        for part in kept[1:]:
            together = joined(together, part)
        return together

    def _extract(self, rows: NDArray[np.int64], stage: str, listener: Listener) -> Features:
        found, _ = extract(
            self.table,
            rows,
            self.plan.preprocess(self.recipe),
            lambda batch: self.engine.run(batch).embedding,
            threads=self.plan.workers,
            listener=listener,
            stage=stage,
            key=self.key,
        )
        return found


def _tried(recipe: Recipe, table: ImageTable, candidates: Sequence[Candidate], listener: Listener) -> list[Tried]:
    """Latencies, then heads on the images that all candidates have seen."""
    if not candidates:
        return []
    latencies_ms = _latencies_ms(recipe, table, candidates)
    limit_ms, found = recipe.model.max_latency_ms, list[Tried]()
    quick = [limit_ms is None or latency_ms <= limit_ms for latency_ms in latencies_ms]
    images = min(len(one.train.rows) for one in candidates)
    judged = min(len(one.val.rows) for one in candidates)
    for one, latency_ms, is_quick in zip(candidates, latencies_ms, quick, strict=True):
        scores, begun_s = None, time.monotonic()
        if is_quick and sum(quick) > 1:
            scores = _scores(recipe, table, one, images, judged, listener)
            took = duration(one.took_s + time.monotonic() - begun_s)
            listener.say(
                f"model=auto: {one.name}: accuracy {scores.accuracy:.4f}, macro F1 {scores.macro_f1:.4f} on {judged:,} "
                f"validation images with {images:,} training images, {latency_ms:.1f} ms an image ({took})"
            )
        found.append(Tried(source=one.source, scores=scores, latency_ms=latency_ms))
    return found


def _scores(recipe: Recipe, table: ImageTable, one: Candidate, images: int, judged: int, listener: Listener) -> Scores:
    context = Context(
        recipe=recipe,
        table=table,
        run=None,
        plan=one.plan,
        spec=one.plan.preprocess(recipe),
        listener=listener,
        deadline_s=None,
        source=one.source,
    )
    train, val = _first(one.train, images), _first(one.val, judged)
    return score(choose_head(context, train, val, one.parts).head.logits(val.values), val.labels)


def _latencies_ms(recipe: Recipe, table: ImageTable, candidates: Sequence[Candidate]) -> list[float]:
    """Of one image each, in turns, so that a busy moment of the machine hits all alike."""
    batches = [_one_image(recipe, table, one) for one in candidates]
    times_s = np.full((_TIMED + 1, len(candidates)), np.inf)
    for turn in range(_TIMED + 1):
        for place, (one, batch) in enumerate(zip(candidates, batches, strict=True)):
            begun_s = time.perf_counter()
            one.engine.run(batch)
            times_s[turn, place] = time.perf_counter() - begun_s
    least: list[float] = (times_s.min(axis=0) * 1000).tolist()
    return least


def _one_image(recipe: Recipe, table: ImageTable, one: Candidate) -> NDArray[np.float32]:
    """The first validation image that can be read."""
    spec = one.plan.preprocess(recipe)
    return np.asarray(normalize(spec, read_image(table, int(one.val.rows[0]), spec)[None]))


def _first(features: Features, count: int) -> Features:
    return Features(values=features.values[:count], labels=features.labels[:count], rows=features.rows[:count])


def _shuffled(table: ImageTable, split: str) -> NDArray[np.int64]:
    """The labeled rows of a split, every class spread evenly over them, in an order that no setting changes."""
    rows = _labeled(table, split)
    labels = table.label_array()[rows]
    order = generator(0, "folds", epoch=0, index=len(rows)).permutation(len(rows))
    counts, place = np.bincount(labels), np.empty(len(rows))
    for label in np.flatnonzero(counts):
        mine = order[labels[order] == label]
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    return rows[np.lexsort((order, place))]


def _labeled(table: ImageTable, split: str) -> NDArray[np.int64]:
    rows = table.split_rows(split)
    return rows[table.label_array()[rows] >= 0]


def _best(recipe: Recipe, tried: Sequence[Tried]) -> ModelSource:
    limit_ms, metric = recipe.model.max_latency_ms, recipe.train.metric
    quick = [one for one in tried if limit_ms is None or one.latency_ms <= limit_ms]
    if not quick:
        fastest = min(tried, key=lambda one: one.latency_ms)
        raise RecipeError(
            "no network at hand answers as quickly as asked",
            where="model.max_latency_ms",
            received=f"{limit_ms:g}; the quickest needs {fastest.latency_ms:.1f} ms ({_name(fastest.source)})",
            hint="allow more time, or give a smaller input.size",
        )
    best = quick[0]
    for one in quick[1:]:
        best = one if one.scores is not None and one.scores.better(best.scores, metric) else best
    why = (
        f"the best {metric} by a probe on validation images"
        if len(quick) > 1
        else "the only one that came into question"
    )
    limit = "" if limit_ms is None else f" within {limit_ms:g} ms an image"
    shown = ", ".join(_shown(one, metric, over=one not in quick) for one in tried)
    note = f"model=auto: {_name(best.source)}, {why}{limit} ({shown})."
    return replace(best.source, name="auto", notes=(note, *best.source.notes))


def _shown(one: Tried, metric: str, *, over: bool) -> str:
    if over:
        return f"{_name(one.source)} is too slow with {one.latency_ms:.1f} ms"
    result = "" if one.scores is None else f" {getattr(one.scores, metric):.4f}"
    return f"{_name(one.source)}{result} in {one.latency_ms:.1f} ms"


def _name(source: ModelSource) -> str:
    """That of its card: several cards may hold weights of one architecture."""
    return source.architecture if source.card is None else Path(source.card).stem
