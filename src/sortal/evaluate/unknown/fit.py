"""Choose an unknown score, fit it on the training images, and set its threshold for a rate of false alarms.

Shapes: N training images, M validation images, D embedding dimensions, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import UnknownSpec
from sortal.evaluate.unknown import METHODS
from sortal.evaluate.unknown.leave_out import Candidate, Trial, World, candidates, compare_scores, mean_auroc
from sortal.evaluate.unknown.space import fit_space
from sortal.evaluate.unknown.threshold import threshold_for
from sortal.evaluate.unknown.training import Parameters, Training

FEWEST_KNOWN = 20
"""Validation images below which no threshold means anything."""
PARAMETERS = "reference.safetensors"
FALLBACK = "mahalanobis"
"""Where nothing can be compared; it needs neither logits nor a second class."""

COMBINATION = "rank"

_HELD_SHARE = 0.2
_NEEDS_LOGITS = ("energy", "rank")

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class UnknownFit:
    """A fitted score."""

    chosen: Candidate
    parameters: Parameters
    threshold: float
    rate: float
    """Share of known images that are called unknown at most, on average."""
    known_scores: NDArray[np.float64]
    """(M,) of the images that the threshold was set by."""
    auroc: dict[str, float]
    """Mean over left-out classes of every score that was tried, and of the highest probability; empty where none."""
    trials: int

    @property
    def method(self) -> str:
        """Its name in the registry."""
        return self.chosen.method

    @property
    def spec(self) -> UnknownSpec:
        """What goes into `decision.json`. The name of a method of another package is refused there."""
        return UnknownSpec(method=cast(Any, self.method), threshold=self.threshold, parameters=PARAMETERS)

    @property
    def facts(self) -> dict[str, Any]:
        """What goes into `reference.json`."""
        return {
            "method": self.chosen.name,
            "threshold": self.threshold,
            "rate": self.rate,
            "known_images": len(self.known_scores),
            "left_out_trials": self.trials,
            "left_out_auroc": {name: round(value, 4) for name, value in self.auroc.items()},
        }


@dataclass(frozen=True, kw_only=True)
class KnownImages:
    """What a classifier makes of some images."""

    embeddings: NDArray[np.float32]
    """(M, D)"""
    logits: NDArray[np.float32]
    """(M, C) of a network that was not trained on them."""
    labels: Ints
    """(M,)"""


def fit_unknown(
    embeddings: NDArray[np.float32],
    labels: Ints,
    known: KnownImages | None,
    *,
    rate: float,
    method: str = "auto",
    families: Ints | None = None,
    temperature: float = 1.0,
    bias: tuple[float, ...] | None = None,
    seed: int = 0,
) -> UnknownFit | None:
    """A score fitted on training images (N, D), its threshold set by `known` validation images.

    With `auto`, the method that separates left-out classes best (see `choose`). Without validation images a fifth of
    the training images stands in for them, for methods that need no logits: those of images trained on are no measure.
    None where there are fewer than 20 images to set a threshold by.
    """
    if known is None or len(known.labels) < FEWEST_KNOWN:
        rows, held = _divided(labels, seed)
        nothing = np.zeros((len(held), 0), np.float32)
        known = KnownImages(embeddings=embeddings[held], logits=nothing, labels=labels[held])
        embeddings, labels = embeddings[rows], labels[rows]
    if len(known.labels) < FEWEST_KNOWN or len(labels) < FEWEST_KNOWN:
        return None
    world = World(
        embeddings=embeddings, labels=labels, held=known.embeddings, held_labels=known.labels, families=families
    )
    methods = [name for name in METHODS.names() if known.logits.shape[1] or name not in _NEEDS_LOGITS]
    if method not in ("auto", *methods):
        return None
    tried = candidates(methods if method == "auto" else [method], len(np.unique(labels)))
    trials = compare_scores(world, tried, seed=seed)
    auroc = mean_auroc(trials)
    chosen = choose(tried, trials)
    parameters = METHODS.get(chosen.method).fit(
        Training(
            space=fit_space(embeddings, labels, chosen.space, seed=seed),
            embeddings=embeddings,
            labels=labels,
            known_embeddings=known.embeddings,
            known_logits=known.logits,
            temperature=temperature,
            bias=bias,
            seed=seed,
        )
    )
    scores = METHODS.get(chosen.method).score(parameters, known.embeddings, known.logits)
    threshold = threshold_for(scores, rate)
    return UnknownFit(
        chosen=chosen,
        parameters=parameters,
        threshold=threshold.value,
        rate=threshold.rate,
        known_scores=scores,
        auroc=auroc,
        trials=len(trials),
    )


def choose(tried: Sequence[Candidate], trials: Sequence[Trial]) -> Candidate:
    """The candidate with the highest mean area over the trials; but a single score takes the place of the best
    combination only where it is ahead by more than the standard error of their difference: a handful of trials is a
    noisy judge, and a combination fails less badly than a score that was lucky."""
    if not trials:
        return next((one for one in tried if one.method == FALLBACK), tried[0])
    areas = {one.name: np.array([trial.auroc[one.name] for trial in trials]) for one in tried}
    best = max(tried, key=lambda one: float(areas[one.name].mean()))
    joined = [one for one in tried if one.method == COMBINATION]
    if not joined or len(trials) < 2:
        return best
    steady = max(joined, key=lambda one: float(areas[one.name].mean()))
    ahead = areas[best.name] - areas[steady.name]
    return best if ahead.mean() > ahead.std(ddof=1) / np.sqrt(len(ahead)) else steady


def _divided(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Positions to fit on and to hold out: a fifth of every class, rounded down."""
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = [order[labels[order] == index] for index in np.unique(labels)]
    held = np.sort(np.concatenate([part[: int(_HELD_SHARE * len(part))] for part in parts]))
    return np.setdiff1d(np.arange(len(labels)), held), held
