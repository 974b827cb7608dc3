"""Which unknown score separates best? Classes are left out, everything is fitted on the rest, and validation images of
kept classes are held against images of those left out. The test split has no part in it.

Where the labels have families, every second time whole families are left out: strangers of another kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.evaluate.measure.ranking import roc_auc
from sortal.evaluate.unknown import METHODS
from sortal.evaluate.unknown.odds import log_odds
from sortal.evaluate.unknown.ridge import fit_quick_head
from sortal.evaluate.unknown.sample import stratified
from sortal.evaluate.unknown.space import Kind, fit_spaces, kinds
from sortal.evaluate.unknown.training import Training

BASELINE = "max_softmax"
"""The highest probability (Hendrycks and Gimpel 2017), against which the scores are held."""
DRAWS = 4
SHARE = 0.25
"""Of the classes (or families), left out each time; at least one."""

_MAX_TRAINING, _MAX_STRANGERS = 1_500, 500
_FEWEST = 5
_ENOUGH_STRANGERS = 20
"""Validation images of left-out classes; with fewer, training images of those classes join them, although they may
come from another day than the known images."""

Ints = NDArray[np.int64]
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class World:
    """Embeddings (N, D) and labels (N,) of training images, the same of validation images, and the class of classes
    that each class belongs to (C,), where there is one."""

    embeddings: NDArray[np.float32]
    labels: Ints
    held: NDArray[np.float32]
    held_labels: Ints
    families: Ints | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One leaving out: which classes, and the area under the ROC curve of every score."""

    left_out: tuple[int, ...]
    auroc: dict[str, float]
    """By name of the candidate."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A method, and the space it measures in."""

    method: str
    space: Kind = "whitened"

    @property
    def name(self) -> str:
        """Energy knows no space."""
        return self.method if self.method == "energy" else f"{self.method} ({self.space})"


def candidates(methods: Sequence[str], classes: int) -> tuple[Candidate, ...]:
    """Methods with the spaces that are worth trying for so many classes."""
    return tuple(
        Candidate(method=method, space=space)
        for method in methods
        for space in (kinds(classes) if method != "energy" else kinds(0))
    )


def compare_scores(world: World, tried: Sequence[Candidate], *, seed: int = 0, draws: int = DRAWS) -> tuple[Trial, ...]:
    """Up to `draws` trials; fewer, or none, where there are too few classes or images."""
    trials = []
    for draw in range(draws):
        out = left_out(np.unique(world.labels), world.families, draw, seed)
        found = _trial(world, out, tried, seed)
        if found is not None:
            trials.append(Trial(left_out=tuple(out.tolist()), auroc=found))
    return tuple(trials)


def mean_auroc(trials: Sequence[Trial]) -> dict[str, float]:
    """Of every score, over the trials."""
    names = trials[0].auroc if trials else ()
    return {name: float(np.mean([trial.auroc[name] for trial in trials])) for name in names}


def left_out(present: Ints, families: Ints | None, draw: int, seed: int) -> Ints:
    """Which of the classes `present` are left out at a draw: a quarter of the classes, or of the families."""
    generator = np.random.default_rng([seed, draw])
    if families is not None and draw % 2 == 1:
        own = families[present]
        kinds = np.unique(own)
        if 3 <= len(kinds) < len(present):
            return present[np.isin(own, _some(kinds, generator))]
    return np.sort(_some(present, generator))


def _some(things: Ints, generator: np.random.Generator) -> Ints:
    count = max(1, round(SHARE * len(things)))
    return generator.permutation(things)[: min(count, len(things) - 1)]


def _trial(world: World, out: Ints, tried: Sequence[Candidate], seed: int) -> dict[str, float] | None:
    kept = np.setdiff1d(np.unique(world.labels), out)
    known = np.isin(world.held_labels, kept)
    strangers = world.held[~known]
    if len(strangers) < _ENOUGH_STRANGERS:
        strangers = np.concatenate([strangers, world.embeddings[np.isin(world.labels, out)]])
    if not len(kept) or known.sum() < _FEWEST or len(strangers) < _FEWEST:
        return None
    strangers = strangers[:: max(1, len(strangers) // _MAX_STRANGERS)]
    number = np.full(int(max(world.labels.max(), world.held_labels.max())) + 1, -1)
    number[kept] = np.arange(len(kept))
    rows = np.flatnonzero(np.isin(world.labels, kept))
    rows = rows[stratified(world.labels[rows], _MAX_TRAINING, seed=seed)]
    part = World(
        embeddings=world.embeddings[rows],
        labels=number[world.labels[rows]],
        held=world.held[known],
        held_labels=number[world.held_labels[known]],
    )
    scores = [np.concatenate(pair) for pair in _scores(part, strangers, len(kept), tried, seed)]
    positive = np.arange(len(part.held) + len(strangers)) >= len(part.held)
    names = (BASELINE, *(candidate.name for candidate in tried))
    return {name: roc_auc(values, positive)[0] for name, values in zip(names, scores, strict=True)}


def _scores(
    part: World, strangers: NDArray[np.float32], classes: int, tried: Sequence[Candidate], seed: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Of known and of strange images: the baseline's, then each candidate's."""
    head = fit_quick_head(part.embeddings, part.labels, part.held, part.held_labels, classes)
    logits = head.logits(part.held), head.logits(strangers)
    found = [(log_odds(logits[0].astype(np.float64)), log_odds(logits[1].astype(np.float64)))]
    wanted = tuple(sorted({candidate.space for candidate in tried}))
    spaces = fit_spaces(part.embeddings, part.labels, wanted, seed=seed)
    for candidate in tried:
        training = Training(
            space=spaces[candidate.space],
            embeddings=part.embeddings,
            labels=part.labels,
            known_embeddings=part.held,
            known_logits=logits[0],
            seed=seed,
        )
        member = METHODS.get(candidate.method)
        parameters = member.fit(training)
        known, strange = (
            member.score(parameters, values, own) for values, own in zip((part.held, strangers), logits, strict=True)
        )
        found.append((known, strange))
    return found
