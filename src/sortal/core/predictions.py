"""Predictions: the answers of a classifier as arrays; the same type from a live module, an artifact and a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.backoff import COARSE, FINE, LEVELS, PERSON, back_off
from sortal.core.conformal import ConformalScores
from sortal.core.decision import DecisionSpec, decide
from sortal.core.errors import InputError
from sortal.core.labels import LabelSet

if TYPE_CHECKING:
    import pandas
    import polars


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Answers to N images over C classes, in the order asked. An image that could not be read has index -1."""

    names: tuple[str, ...]
    """What each row is about: a path, `archive::member`, `arrays.npz::name#frame`, or `input[3]` for a bare array."""
    labels: LabelSet
    bundle_id: str
    index: NDArray[np.int64]
    """(N,) answered class, -1 where the image could not be read."""
    probabilities: NDArray[np.float32]
    """(N, C) calibrated probabilities; a row of NaN where the image could not be read."""
    abstained: NDArray[np.bool_]
    """(N,) the answer is not sure enough, or the image is unknown: it belongs to a person."""
    unknown_score: NDArray[np.float32] | None = None
    """(N,) higher is stranger; None where the bundle has no such score, NaN where the image could not be read."""
    unknown: NDArray[np.bool_] | None = None
    """(N,) none of the classes, by the score; None where the bundle has no such score."""
    conformal: ConformalScores | None = None
    """What prediction sets are made by; None where the bundle has nothing of that kind."""
    errors: Mapping[int, tuple[str, str]]
    """Row -> (code, message) for images that could not be read."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def probability(self) -> NDArray[np.float32]:
        """(N,) probability of the answer, NaN where there is none; where mistakes cost, not always the highest."""
        rows = np.arange(len(self))
        own: NDArray[np.float32] = self.probabilities[rows, self.index] if len(self) else np.zeros(0, np.float32)
        return own

    @property
    def margin(self) -> NDArray[np.float32]:
        """(N,) the highest probability minus the second; 1 where there is one class only."""
        if self.probabilities.shape[1] < 2:
            return np.ones(len(self), np.float32)
        top = np.sort(self.probabilities, axis=1)[:, -2:]
        gap: NDArray[np.float32] = top[:, 1] - top[:, 0]
        return gap

    def top_k(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Class indices and probabilities, both (N, min(k, C)), best first; ties go to the lower index."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(self.probabilities, order, axis=1)

    def answers(self) -> list[str | None]:
        """The answered class names; None where the image could not be read."""
        return [self.labels.names[index] if index >= 0 else None for index in self.index]

    def sets(self, level: float, *, by_class: bool = False) -> list[tuple[str, ...]]:
        """The classes that cannot be ruled out, likeliest first: the right one is among them for a share `level` of
        images like those of the calibration (with `by_class`, of each class); see `core.conformal`.

        Empty where no class is likely enough, or the image could not be read. Raises InputError where the bundle holds
        no calibration scores, or `level` is not between 0 and 1.
        """
        if self.conformal is None:
            hint = "train with validation images, or fit it later: sortal calibrate RUN IMAGES"
            raise InputError("this classifier holds no calibration scores for prediction sets", hint=hint)
        chosen = self.conformal.sets(self.probabilities, level, by_class=by_class)
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        names = self.labels.names
        return [
            tuple(names[index] for index in ranked.tolist() if own[index])
            for ranked, own in zip(order, chosen, strict=True)
        ]

    def backed_off(self, threshold: float) -> list[tuple[str | None, str]]:
        """For each image the class where it is at least so probable, else the coarse class where that is, else None;
        with the level: `class`, `family` or `person`; see `core.backoff`.

        Images that are unknown or could not be read are a person's. Raises InputError where classes have no families.
        """
        parents, coarse = self.labels.coarse_index(), self.labels.coarse()
        if parents is None or coarse is None:
            hint = "train with a taxonomy: a column of coarse classes, or folders in folders"
            raise InputError("the classes of this classifier have no families to back off to", hint=hint)
        found = back_off(np.nan_to_num(self.probabilities), parents, threshold)
        lost = (self.index < 0) | (np.zeros(len(self), bool) if self.unknown is None else self.unknown)
        names = {FINE: self.labels.names, COARSE: coarse.names}
        levels = np.where(lost, PERSON, found.level).tolist()
        return [
            (names[level][answer] if level in names else None, LEVELS[level])
            for level, answer in zip(levels, found.answer.tolist(), strict=True)
        ]

    def to_polars(
        self, *, scores: bool = True, sets: float | None = None, back_off: float | None = None
    ) -> polars.DataFrame:
        """One row an image: image, label, probability, margin, abstained, error, then (if `scores`) one column a class.

        The columns of scores are called `p_<class>`. Where there is an unknown score, `unknown_score` and `unknown`
        stand before them. `sets`, a level such as 0.9, adds the column `set`: names joined by `|`. `back_off`, a
        threshold such as 0.8, adds `back_off` (class or family) and `back_off_level` (class, family or person).
        """
        import polars

        readable = self.index >= 0
        columns: dict[str, Any] = {
            "image": list(self.names),
            "label": self.answers(),
            "probability": _with_nulls(self.probability, readable),
            "margin": _with_nulls(self.margin, readable),
            "abstained": self.abstained,
            "error": [": ".join(self.errors[row]) if row in self.errors else None for row in range(len(self))],
        }
        if self.unknown_score is not None:
            columns["unknown_score"] = _with_nulls(self.unknown_score, readable)
        if self.unknown is not None:
            columns["unknown"] = self.unknown
        if sets is not None:
            columns["set"] = ["|".join(own) for own in self.sets(sets)]
        if back_off is not None:
            columns["back_off"], columns["back_off_level"] = _columns(self.backed_off(back_off))
        if scores:
            columns |= {
                f"p_{name}": _with_nulls(self.probabilities[:, index], readable)
                for index, name in enumerate(self.labels.names)
            }
        schema = dict.fromkeys(("image", "label", "error"), polars.String)
        schema |= dict.fromkeys({"back_off", "back_off_level"} & set(columns), polars.String)
        return polars.DataFrame(columns, schema_overrides=schema)

    def to_pandas(self, *, scores: bool = True) -> pandas.DataFrame:
        """As `to_polars`. Raises MissingExtraError where pandas is not installed."""
        from sortal.core.errors import MissingExtraError

        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError("pandas", "pandas") from error
        return pandas.DataFrame(self.to_polars(scores=scores).to_dict(as_series=False))


def predictions_from_logits(
    logits: NDArray[np.float32],
    *,
    names: Sequence[str],
    labels: LabelSet,
    decision: DecisionSpec,
    bundle_id: str,
    errors: Mapping[int, tuple[str, str]] | None = None,
    unknown_score: NDArray[np.float32] | None = None,
    conformal: ConformalScores | None = None,
) -> Predictions:
    """Turn logits (N, C) and unknown scores (N,) into answers. Rows listed in `errors` may hold anything and become
    unreadable rows."""
    failed = dict(errors or {})
    decided = decide(decision, logits if len(logits) else np.zeros((0, len(labels)), np.float32), unknown_score)
    chances, index, abstained = decided.probabilities, decided.index, decided.abstained
    strange = None if decision.unknown is None or unknown_score is None else decided.unknown
    scores = None if strange is None or unknown_score is None else unknown_score.astype(np.float32)
    if failed:
        rows = sorted(failed)
        chances[rows], index[rows], abstained[rows] = np.nan, -1, False
        if strange is not None and scores is not None:
            strange[rows], scores[rows] = False, np.nan
    return Predictions(
        names=tuple(names),
        labels=labels,
        bundle_id=bundle_id,
        index=index,
        probabilities=chances,
        abstained=abstained,
        unknown_score=scores,
        unknown=strange,
        conformal=conformal,
        errors=failed,
    )


def _with_nulls(values: NDArray[np.float32], keep: NDArray[np.bool_]) -> list[float | None]:
    return [float(value) if ok else None for value, ok in zip(values, keep, strict=True)]


def _columns(pairs: list[tuple[str | None, str]]) -> tuple[list[str | None], list[str]]:
    return [name for name, _ in pairs], [level for _, level in pairs]
