"""What the classes of an evaluation are to each other: a good one among defects, grades, or one that is looked for.

A false-detection rate needs good parts: it is the share of them that are reported as defective. So without a class of
good parts (`evaluate.ok`) there is none for the whole, only for each class against the rest.

Shapes: N images, C classes, K grades.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import RecipeError, nearest
from sortal.core.labels import LabelSet
from sortal.core.sections import EvaluateSection

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

OK_NAMES = frozenset((
    "ok", "okay", "good", "pass", "passed", "normal", "healthy", "intact", "flawless", "accepted", "no_defect",
    "defect_free", "no_finding", "ok_front", "正常", "合格", "良品", "合格品", "无缺陷",
))  # fmt: skip
"""How the class of good parts is called, in lower case with `_` between words."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is known about the classes beside their names."""

    ok: int | None = None
    """The class of good parts."""
    positive: int | None = None
    """The class whose misses and false detections are told; with `ok`, every other class is one of its kind."""
    grades: Ints | None = None
    """(K,) the classes that are grades, lowest first."""

    def defective(self, index: Ints) -> Bools:
        """(N,) which of the classes (N,) are what is looked for."""
        found: Bools = index != self.ok if self.positive is None else index == self.positive
        return found

    def score(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) probability of what is looked for."""
        if self.positive is not None:
            return probabilities[:, self.positive]
        return np.float32(1.0) - probabilities[:, self.ok or 0]

    @property
    def detects(self) -> bool:
        """Whether something is looked for."""
        return self.ok is not None or self.positive is not None


def task_of(labels: LabelSet, rules: EvaluateSection, positive: str | None = None) -> Task:
    """What the recipe and the names say. `positive` names the class that is looked for; with two classes it is the one
    that is not good, else the second. Raises RecipeError for a class that is not there."""
    ok = _ok(labels, rules.ok)
    chosen = None if positive is None else labels.index(positive)
    if chosen is None and len(labels) == 2:
        chosen = 1 if ok is None else 1 - ok
    return Task(ok=ok if positive is None or chosen != ok else None, positive=chosen, grades=_grades(labels, rules))


def _ok(labels: LabelSet, named: str | None) -> int | None:
    if named is None:
        return None
    if named != "auto" or "auto" in labels.names:
        return _index(labels, named, "evaluate.ok")
    found = [place for place, name in enumerate(labels.names) if _plain(name) in OK_NAMES]
    return found[0] if len(found) == 1 else None


def _grades(labels: LabelSet, rules: EvaluateSection) -> Ints | None:
    if rules.ordered is True:
        return np.arange(len(labels))
    if not rules.ordered:
        return None
    order = [_index(labels, name, "evaluate.ordered") for name in rules.ordered]
    if len(set(order)) < len(order) or len(order) < 2:
        raise RecipeError(
            "grades are two classes or more, each once", where="evaluate.ordered", received=str(rules.ordered)
        )
    return np.array(order, dtype=np.int64)


def _index(labels: LabelSet, name: str, where: str) -> int:
    found = labels.lookup().get(name)
    if found is None:
        raise RecipeError("unknown class", where=where, received=name, hint=nearest(name, labels.names))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())
