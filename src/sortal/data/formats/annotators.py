"""Several people's annotations of one image made into one: the majority's class, one person's boxes, and how far the
others agree.

Agreement of classes is the share of annotators who gave the one that is used. Agreement of a box is the share of the
other annotators who drew one of the same class that covers it (intersection over union of at least 0.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sortal.data.boxes import Floats, overlap

SAME_BOX = 0.5


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """One annotator's answers about one image: boxes and polygons as annotation rows, the class of the whole image."""

    annotator: str | None
    labeled_at: str | None
    truth: bool = False
    shapes: Sequence[dict[str, Any]] = ()
    label: str | None = None
    marks: dict[str, Any] = field(default_factory=dict)


def agreed(opinions: Sequence[Opinion], image: int) -> list[dict[str, Any]]:
    """Annotation rows of one image. A tie between classes gives no class: the row's text is None."""
    drawn = [opinion for opinion in opinions if opinion.shapes]
    return [*_shapes(drawn), *_label([opinion for opinion in opinions if opinion.label is not None], image)]


def _label(opinions: Sequence[Opinion], image: int) -> list[dict[str, Any]]:
    if not opinions:
        return []
    chosen = _majority(opinions)
    voice = _first([opinion for opinion in opinions if opinion.label == chosen] or opinions)
    row = {**voice.marks, "image": image, "text": chosen, "annotator": voice.annotator, "labeled_at": voice.labeled_at}
    if len(opinions) == 1:
        return [row]
    share = sum(opinion.label == chosen for opinion in opinions) / len(opinions)
    each = {f"label_by_{opinion.annotator or place}": opinion.label for place, opinion in enumerate(opinions)}
    return [{**row, "annotators": len(opinions), "agreement": round(share, 6), **each}]


def _majority(opinions: Sequence[Opinion]) -> str | None:
    """The ground truth where there is one; None for a tie."""
    truths = [opinion.label for opinion in opinions if opinion.truth]
    counts = Counter(truths or [opinion.label for opinion in opinions]).most_common()
    return None if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]


def _shapes(opinions: Sequence[Opinion]) -> list[dict[str, Any]]:
    if not opinions:
        return []
    voice = _first(opinions)
    signed = {"annotator": voice.annotator, "labeled_at": voice.labeled_at}
    others = [opinion for opinion in opinions if opinion is not voice]
    if not others:
        return [{**shape, **signed} for shape in voice.shapes]
    shares = np.mean([_seen(voice.shapes, other.shapes) for other in others], axis=0)
    return [
        {**shape, **signed, "annotators": len(opinions), "agreement": round(float(share), 6)}
        for shape, share in zip(voice.shapes, shares, strict=True)
    ]


def _first(opinions: Sequence[Opinion]) -> Opinion:
    """The ground truth, else the last one made."""
    return max(enumerate(opinions), key=lambda pair: (pair[1].truth, pair[1].labeled_at or "", pair[0]))[1]


def _seen(shapes: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> Floats:
    """(N,) 1 where another annotator drew about the same box with the same class."""
    mine, theirs = np.array([_box(shape) for shape in shapes]), np.array([_box(shape) for shape in others])
    same = np.array([[shape["text"] == other["text"] for other in others] for shape in shapes])
    found: Floats = ((overlap(mine, theirs) >= SAME_BOX) & same).any(axis=1).astype(np.float64)
    return found


def _box(shape: dict[str, Any]) -> list[float]:
    if shape.get("box") is not None:
        return [float(value) for value in shape["box"]]
    points = np.array([float(value) for value in shape.get("polygon") or [float("nan")] * 2]).reshape(-1, 2)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
