"""The images behind the numbers of an evaluation: what each was, what was answered, and which get a thumbnail.

A page that holds ten thousand images names all of them and shows some: every mistake first, then answers that were not
given, then a few right ones of every class, as far as the number of thumbnails reaches. Arrays and encoded pictures
only; the page places them.

Shapes: N images, C classes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions
from sortal.data.table import ImageTable
from sortal.evaluate.drawing.thumbnails import jpeg_bytes, thumbnails_of
from sortal.runtime.threads import allowed_cpus

Ints = NDArray[np.int64]

LISTED = 20_000
"""Images that a page names; of more, all mistakes and a part of the others."""
THUMBNAILS = 1_500
THUMBNAIL_PX = 72
_RIGHT_EACH = 4
_QUALITY = 70


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Images in an order of their own; `pictures` are JPEG files of some of them, by place in that order."""

    names: tuple[str, ...]
    true: Ints
    """(N,) classes."""
    answered: Ints
    """(N,) classes."""
    probability: NDArray[np.float32]
    """(N,) of the answer."""
    chance_of_true: NDArray[np.float32]
    """(N,) probability of the true class."""
    abstained: NDArray[np.bool_]
    pictures: dict[int, bytes]
    left_out: int
    """Images that are counted in the report and not named here."""


Show = Callable[[list[int]], Sequence[NDArray[np.uint8] | None]]
"""From rows to their thumbnails (H, W, 3), None where an image cannot be read."""


def gallery(
    predictions: Predictions, labels: Ints, names: Sequence[str], *, show: Show | None = None, most: int = THUMBNAILS
) -> Gallery:
    """The evaluated images (those with a known label that were read), mistakes first, surest first.

    `labels` (N,) and `names` (N,) go with the predictions; `show` makes thumbnails of at most `most` rows.
    """
    rows = np.flatnonzero((labels >= 0) & (predictions.index >= 0))
    order = rows[_importance(predictions, labels, rows)]
    listed = order[:LISTED]
    shown = _shown(predictions, labels, listed)[:most] if show is not None else np.zeros(0, np.int64)
    found = show(listed[shown].tolist()) if show is not None else []
    pictures = {
        int(place): jpeg_bytes(pixels, quality=_QUALITY)
        for place, pixels in zip(shown, found, strict=True)
        if pixels is not None
    }
    return Gallery(
        names=tuple(names[row] for row in listed.tolist()),
        true=labels[listed],
        answered=predictions.index[listed],
        probability=predictions.probability[listed],
        chance_of_true=predictions.probabilities[listed, labels[listed]],
        abstained=predictions.abstained[listed],
        pictures=pictures,
        left_out=len(order) - len(listed),
    )


def shown_from(table: ImageTable, progress: Callable[[int, int], None] | None = None) -> Show:
    """Thumbnails of rows of `table`, made by as many threads as there are CPUs."""

    def show(rows: list[int]) -> Sequence[NDArray[np.uint8] | None]:
        return thumbnails_of(table, rows, THUMBNAIL_PX, workers=allowed_cpus(), progress=progress)

    return show


def pair_pictures(images: Gallery, names: Sequence[str], *, each: int = 3) -> dict[tuple[str, str], list[bytes]]:
    """Names of the true and the answered class -> up to `each` thumbnails of such mistakes, the surest first."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for place in sorted(images.pictures):
        true, answered = int(images.true[place]), int(images.answered[place])
        own = found.setdefault((names[true], names[answered]), []) if true != answered else []
        if len(own) < each:
            own.append(images.pictures[place])
    return found


def gallery_data(images: Gallery) -> dict[str, Any]:
    """Plain lists for the page. Probabilities in thousandths; thumbnails are base64 without their address."""
    return {
        "name": list(images.names),
        "true": images.true.tolist(),
        "answered": images.answered.tolist(),
        "p": np.rint(images.probability.astype(np.float64) * 1000).astype(int).tolist(),
        "q": np.rint(images.chance_of_true.astype(np.float64) * 1000).astype(int).tolist(),
        "abstained": images.abstained.astype(int).tolist(),
        "thumb": {str(place): base64.b64encode(data).decode("ascii") for place, data in images.pictures.items()},
        "left_out": images.left_out,
    }


def _importance(predictions: Predictions, labels: Ints, rows: Ints) -> Ints:
    """Places in `rows`: given mistakes, mistakes not given, right answers not given, right ones; surest first, but the
    least sure of the right ones."""
    wrong, held = predictions.index[rows] != labels[rows], predictions.abstained[rows]
    kind = np.where(wrong, held.astype(int), np.where(held, 2, 3))
    sure = predictions.probability[rows].astype(np.float64)
    return np.lexsort((rows, np.where(wrong, -sure, sure), kind))


def _shown(predictions: Predictions, labels: Ints, listed: Ints) -> Ints:
    """Places in `listed` in the order in which they get thumbnails: mistakes, a few right ones of every class, the
    rest. Of one cell of the confusion matrix the first ones come before the many."""
    true, answered = labels[listed], predictions.index[listed]
    right = true == answered
    turn = _turns(true * (int(max(true.max(initial=0), answered.max(initial=0))) + 1) + answered)
    urgency = np.where(right, np.where(turn < _RIGHT_EACH, 1, 3), np.where(turn < 12, 0, 2))
    return np.lexsort((np.arange(len(listed)), turn, urgency))


def _turns(keys: Ints) -> Ints:
    """(N,) how many earlier ones have the same key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(keys) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(keys)])
    turns = np.empty(len(keys), np.int64)
    turns[order] = np.arange(len(keys)) - np.repeat(starts, lengths)
    return turns
