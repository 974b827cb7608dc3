"""What a run learns about its own images once the network is trained: embeddings for the bundle's `reference/`, and how
to tell strangers from them.

The embeddings are those of the exported graph: from the cache where a probe was fitted on them, else one pass over at
most 5,000 training and 5,000 validation images. Test images have no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.conformal import conformal_arrays, conformal_scores
from sortal.core.decision import DecisionSpec, probabilities
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.reference import MAX_EMBEDDING_BYTES, MAX_IMAGES, Reference, seen_keys
from sortal.core.report import Finding
from sortal.data.table import ImageTable
from sortal.evaluate.unknown.fit import FEWEST_KNOWN, KnownImages, UnknownFit, fit_unknown
from sortal.evaluate.unknown.sample import stratified
from sortal.export.unknown import set_unknown
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.start import Start
from sortal.train.context import feature_key
from sortal.train.features import Features, extract
from sortal.train.fit import FitResult

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Acquaintance:
    """What became of it: the decision with the unknown score, and what goes into the bundle's reference."""

    decision: DecisionSpec
    reference: Reference
    unknown: UnknownFit | None
    findings: tuple[Finding, ...]


def get_acquainted(
    graph: Path,
    recipe: Recipe,
    table: ImageTable,
    start: Start,
    fitted: FitResult,
    decision: DecisionSpec,
    told: Listener,
) -> Acquaintance:
    """Read the exported `graph`'s embeddings, fit the unknown score, and write it into the graph."""
    train, val = _embeddings(graph, recipe, table, start, fitted, told)
    wanted = recipe.evaluate.unknown
    unknown = None if wanted == "none" else _fit(recipe, table, fitted, decision, train, val)
    if unknown is not None:
        set_unknown(graph, unknown.method, unknown.parameters)
        decision = decision.model_copy(update={"unknown": unknown.spec})
        told.say(_sentence(unknown))
    return Acquaintance(
        decision=decision,
        reference=_reference(table, fitted, decision, train, unknown),
        unknown=unknown,
        findings=() if wanted == "none" else _findings(unknown, recipe.evaluate.unknown_rate),
    )


def acquaintance_passes(train: int, val: int) -> int:
    """How many images are read for it."""
    return min(train, MAX_IMAGES) + min(val, MAX_IMAGES)


def _embeddings(
    graph: Path, recipe: Recipe, table: ImageTable, start: Start, fitted: FitResult, told: Listener
) -> tuple[Features, Features]:
    """Of training images, a share of every class where there are many, and of the validation images judged by."""
    labels = table.label_array()
    rows = table.split_rows("train")
    rows = rows[labels[rows] >= 0]
    rows = rows[stratified(labels[rows], MAX_IMAGES, seed=recipe.seed)]
    val_rows = fitted.val_rows[stratified(fitted.val_labels, MAX_IMAGES, seed=recipe.seed)]
    probed = start.plan.stages == ("probe",) and fitted.network.linear_head
    key = feature_key(start.source, recipe, "onnxruntime", fitted.network.pooling.kind) if probed else None
    engine: Engine = ENGINES.get("onnxruntime").open(graph, threads=start.plan.threads)
    try:
        found = [
            extract(
                table,
                part,
                fitted.spec,
                lambda batch: engine.run(batch).embedding,
                threads=start.plan.workers,
                listener=told,
                stage=f"embeddings of {name} images",
                key=key,
            )[0]
            for name, part in (("train", rows), ("val", val_rows))
        ]
    finally:
        engine.close()
    return found[0], found[1]


def _fit(
    recipe: Recipe, table: ImageTable, fitted: FitResult, decision: DecisionSpec, train: Features, val: Features
) -> UnknownFit | None:
    families = table.labels.coarse_index()
    logits = dict(zip(fitted.val_rows.tolist(), fitted.val_logits, strict=True))
    known = None
    if len(val.rows):
        own = np.stack([logits[row] for row in val.rows.tolist()])
        known = KnownImages(embeddings=val.values, logits=own, labels=val.labels)
    return fit_unknown(
        train.values,
        train.labels,
        known,
        rate=recipe.evaluate.unknown_rate,
        method=recipe.evaluate.unknown,
        families=None if families is None else np.array(families, np.int64),
        temperature=decision.temperature,
        bias=decision.bias,
        seed=recipe.seed,
    )


def _reference(
    table: ImageTable, fitted: FitResult, decision: DecisionSpec, train: Features, unknown: UnknownFit | None
) -> Reference:
    width = max(1, train.values.shape[1])
    kept = stratified(train.labels, min(MAX_IMAGES, MAX_EMBEDDING_BYTES // (2 * width)), seed=0)
    largest = float(np.finfo(np.float16).max)
    used = np.concatenate([table.split_rows("train"), table.split_rows("val")])
    judged = fitted.val_labels >= 0
    scores = conformal_scores(probabilities(decision, fitted.val_logits[judged]), fitted.val_labels[judged])
    return Reference(
        embeddings=np.clip(train.values[kept], -largest, largest).astype(np.float16),
        labels=train.labels[kept],
        names=tuple(table.name(int(row)) for row in train.rows[kept]),
        seen=seen_keys(table.frame["digest"][used].to_list()),
        unknown={} if unknown is None else unknown.parameters,
        conformal=conformal_arrays(scores),
        facts={} if unknown is None else {"unknown": unknown.facts},
    )


def _sentence(unknown: UnknownFit) -> str:
    compared = ", ".join(
        f"{name} {value:.3f}" for name, value in sorted(unknown.auroc.items(), key=lambda row: -row[1])
    )
    said = f"unknown images are told by {unknown.chosen.name}"
    return f"{said} (area under the ROC curve on left-out classes: {compared})" if compared else said


def _findings(unknown: UnknownFit | None, rate: float) -> tuple[Finding, ...]:
    if unknown is None:
        message = f"Unknown images cannot be told: that takes {FEWEST_KNOWN} images to fit on and as many to judge by."
        return (Finding(code="no_unknown_score", severity="info", message=message),)
    if unknown.rate > rate:
        message = (
            f"The rate of known images called unknown can be promised down to {unknown.rate:.1%} only, from "
            f"{len(unknown.known_scores)} images; {rate:.1%} was asked for."
        )
        hint = f"at least {round(1 / rate) - 1:,} validation images are needed, or a higher evaluate.unknown_rate"
        return (Finding(code="unknown_rate_not_promised", severity="info", message=message, hint=hint),)
    return ()
