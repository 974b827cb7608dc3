"""Which candidates are taken: those within the budget and faster than float32 on this machine, the fastest of each
artifact; of those that are about as fast and as small, the one that moves answers least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.compress.judge import Price
from sortal.compress.pricing import Budget, Candidate
from sortal.compress.speed import interleaved_ms, is_faster, time_ratio
from sortal.core.report import Metric
from sortal.runtime.engines import ENGINES

ABOUT = 1.05
"""Times, and sizes, that differ by less are the same."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A candidate with its time."""

    candidate: Candidate
    ms: float
    """Median CPU milliseconds of one image on one thread."""
    ratio: Metric
    """Its time over that of float32 on the same engine."""

    @property
    def engine(self) -> str:
        """That the candidate is for."""
        return self.candidate.engine

    @property
    def price(self) -> Price:
        """What the candidate costs there."""
        return self.candidate.price


@dataclass(frozen=True, kw_only=True)
class Judged(Timed):
    """A candidate and what became of it."""

    verdict: str
    """`shipped`, `fits` (within the budget, not the one that was taken), or why it was refused."""


def timed(
    candidates: Sequence[Candidate], original: Path, engine: str, image: NDArray[np.float32]
) -> tuple[list[Timed], float]:
    """Candidates of one engine in turns with float32 on one normalized image (1, C, H, W); and float32's own median."""
    paths = (original, *(one.path for one in candidates))
    opened = [ENGINES.get(engine).open(path, threads=1) for path in paths]
    try:
        times = interleaved_ms(opened, image)
    finally:
        for one in opened:
            one.close()
    found = [
        Timed(candidate=one, ms=float(np.median(mine)), ratio=time_ratio(times[0], mine))
        for one, mine in zip(candidates, times[1:], strict=True)
    ]
    return found, float(np.median(times[0]))


def verdicts(found: Sequence[Timed], budget: Budget) -> list[Judged]:
    """What becomes of each; see the top of this file. What is for another machine need not be faster on this one."""
    taken = {id(_best(kind, budget)) for kind in _by_artifact(found)}
    return [
        Judged(
            candidate=one.candidate,
            ms=one.ms,
            ratio=one.ratio,
            verdict=_objection(one, budget) or ("shipped" if id(one) in taken else "fits"),
        )
        for one in found
    ]


def may_gain(found: Sequence[Timed], budget: Budget) -> bool:
    """Whether training could help: nothing for this machine passes, and it is accuracy that is missing."""
    here = [one for one in found if not one.candidate.target]
    passes = any(not _objection(one, budget) for one in here)
    return not passes and any(is_faster(one.ratio) for one in here)


def _by_artifact(found: Sequence[Timed]) -> list[list[Timed]]:
    names = dict.fromkeys(one.candidate.artifact for one in found)
    return [[one for one in found if one.candidate.artifact == name] for name in names]


def _best(found: Sequence[Timed], budget: Budget) -> Timed | None:
    good = [one for one in found if not _objection(one, budget)]
    if not good:
        return None
    forms: dict[tuple[str, tuple[str, ...]], Timed] = {}
    for one in sorted(good, key=_moved, reverse=True):
        forms[one.candidate.method, one.candidate.floating] = one  # one form is as fast with any ranges
    least = min(one.ms for one in forms.values())
    quick = [one for one in forms.values() if one.ms <= ABOUT * least]
    smallest = min(one.candidate.size_bytes for one in quick)
    return min((one for one in quick if one.candidate.size_bytes <= ABOUT * smallest), key=_moved)


def _moved(one: Timed) -> float:
    return one.price.moved


def _objection(one: Timed, budget: Budget) -> str:
    objection = budget.objection(one.candidate.price)
    if objection or one.candidate.target:
        return objection
    return "" if is_faster(one.ratio) else "not faster than float32 on this machine"
