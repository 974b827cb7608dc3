"""What one decision is made for: an image, or all images of a part, lot or patient; and which of them are answered.

The probabilities of a group's images are averaged and decided upon once more, by the same rule as one image. Rows
without a label say nothing and are left out. An image that cannot be read is not answered: a person gets it.

Shapes: N units, C classes of the model; classes that only the data know follow with C, C + 1 ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import DecisionSpec, decide_from_probabilities
from sortal.core.errors import DataError
from sortal.core.predictions import Predictions

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Units:
    """Labelled units and what was decided about each."""

    names: tuple[str, ...]
    """Classes of the model, then those that only the data know."""
    known: int
    """How many of them the model knows."""
    labels: Ints
    """(N,) into `names`."""
    index: Ints
    """(N,) the answered class, whether or not it is given; -1 where nothing could be read."""
    answered: Bools
    """(N,) whether an answer is given."""
    groups: Ints | None
    """(N,) units that may be wrong together; None where each is for itself."""
    unit: str
    """`image`, or the column that one decision is made for."""

    @property
    def wrong(self) -> Bools:
        """(N,) answered with another class than the true one."""
        differs: Bools = self.index != self.labels
        return self.answered & differs

    def counts(self) -> Ints:
        """Units of each class."""
        return np.bincount(self.labels, minlength=len(self.names)).astype(np.int64)


def image_units(
    predictions: Predictions, labels: Ints, *, names: Sequence[str], groups: Sequence[str | None] | None
) -> Units:
    """Each labelled image for itself; `groups` (one a row, None for none) say which images belong together."""
    rows = np.flatnonzero(labels >= 0)
    codes = None if groups is None else group_codes(groups)[rows]
    return Units(
        names=tuple(names),
        known=len(predictions.labels),
        labels=labels[rows],
        index=predictions.index[rows],
        answered=((predictions.index >= 0) & ~predictions.abstained)[rows],
        groups=None if codes is None or len(np.unique(codes)) == len(codes) else codes,
        unit="image",
    )


def group_units(
    predictions: Predictions,
    labels: Ints,
    groups: Sequence[str | None],
    *,
    names: Sequence[str],
    unit: str,
    decision: DecisionSpec,
) -> Units:
    """One decision a group, from the mean of its images' probabilities and unknown scores.

    An image without a group is one for itself. Raises DataError that names groups whose images have several labels.
    """
    rows = np.flatnonzero(labels >= 0)
    codes = np.unique(group_codes(groups)[rows], return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    first = np.full(count, -1, np.int64)
    first[codes[::-1]] = labels[rows][::-1]
    _refuse_conflicts(groups, rows, codes, labels[rows] != first[codes], unit)
    readable = predictions.index[rows] >= 0
    seen = np.bincount(codes[readable], minlength=count)
    chances = np.zeros((count, len(predictions.labels)))
    np.add.at(chances, codes[readable], predictions.probabilities[rows][readable])
    chances /= np.maximum(seen, 1)[:, None]
    scores = None
    if predictions.unknown_score is not None:
        scores = np.bincount(codes[readable], predictions.unknown_score[rows][readable], count) / np.maximum(seen, 1)
    decided = decide_from_probabilities(
        decision, chances.astype(np.float32), None if scores is None else scores.astype(np.float32)
    )
    return Units(
        names=tuple(names),
        known=len(predictions.labels),
        labels=first,
        index=np.where(seen > 0, decided.index, -1).astype(np.int64),
        answered=(seen > 0) & ~decided.abstained,
        groups=None,
        unit=unit,
    )


def group_codes(groups: Sequence[str | None]) -> Ints:
    """(N,) a number for each group; a row without one is a group of its own."""
    numbers: dict[object, int] = {}
    keys = [(row,) if key is None else key for row, key in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _refuse_conflicts(groups: Sequence[str | None], rows: Ints, codes: Ints, odd: Bools, unit: str) -> None:
    if not odd.any():
        return
    named = sorted({str(groups[rows[place]]) for place in np.flatnonzero(odd)})
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    raise DataError(
        f"{len(named)} of {int(codes.max()) + 1} groups have images of several classes: one decision cannot be right",
        where=f"unit: {unit}",
        received=", ".join(named[:5]) + more,
        hint="correct the labels, name another column as unit, or certify with unit: image",
    )
