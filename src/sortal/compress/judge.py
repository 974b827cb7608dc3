"""What int8 costs on the same images: accuracy with paired intervals, classes, flipped decisions, the contract.

The decision is applied as it stands, thresholds and unknown score included: those have to hold for the new numbers too.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.compress.images import Prepared
from sortal.compress.movement import changed_decisions, expected_changes, mean_shift
from sortal.core.bundle import Bundle
from sortal.core.contract import Contract
from sortal.core.errors import BundleError
from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.core.preprocess import normalize
from sortal.core.report import Metric
from sortal.evaluate.certify.certificate import certify
from sortal.evaluate.compare.bootstrap import image_weights
from sortal.evaluate.compare.paired import difference_interval, paired_test
from sortal.evaluate.measure.intervals import RESAMPLES, percentiles, wilson
from sortal.runtime.engines.protocol import Engine

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BATCH = 32
_LATENCY = "max_latency_ms"


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one candidate costs against the network it was made from. Drops are in percentage points, above 0 worse."""

    accuracy: Metric
    """Of the candidate, as a share."""
    accuracy_drop: Metric
    macro_drop: Metric
    """Of the mean recall of the classes that have images."""
    flips: Ints
    """Which images are decided otherwise: another answer, or answered instead of left to a person, or the reverse."""
    expected_flips: float
    """Share of answers that change on images like these, by how far all of them move (`compress.movement`)."""
    moved: float
    """Mean absolute change of the leads on all images that were looked at, those without regard to labels too."""
    recalls: tuple[Floats, Floats]
    """(C,) recall of the original and of the candidate, NaN for classes without images."""
    broken: tuple[str, ...]
    """Clauses of the contract that hold for the original and not any more."""

    @property
    def drop(self) -> float:
        """The larger of both drops, in points."""
        return max(self.accuracy_drop.value or 0.0, self.macro_drop.value or 0.0)


def answer(engine: Engine, bundle: Bundle, images: Prepared) -> Predictions:
    """Decisions of an engine about prepared images. Raises BundleError where its numbers are not finite."""
    parts = [
        engine.run(normalize(bundle.preprocess, images.pixels[start : start + _BATCH]))
        for start in range(0, len(images.labels), _BATCH)
    ]
    logits = np.concatenate([part.logits for part in parts])
    if not np.isfinite(logits).all():
        raise BundleError("the network answers with numbers that are not finite", where=engine.name)
    scores = [part.unknown_score for part in parts]
    return predictions_from_logits(
        logits,
        names=images.names,
        labels=bundle.labels,
        decision=bundle.decision,
        bundle_id=bundle.id,
        unknown_score=None
        if any(one is None for one in scores)
        else np.concatenate([s for s in scores if s is not None]),
    )


def price(
    original: Predictions,
    candidate: Predictions,
    images: Prepared,
    *,
    contract: Contract | None = None,
    sizes: tuple[int, int] = (0, 0),
    confidence: float = 0.95,
) -> Price:
    """Hold a candidate against the original. `sizes` are the bytes of both, for the contract."""
    right = original.index == images.labels, candidate.index == images.labels
    test = paired_test(*right, images.groups)
    low, high = difference_interval(test, int(right[0].sum()), confidence)
    n = len(images.labels)
    ends = wilson(int(right[1].sum()), n, confidence)
    recalls = tuple(class_recalls(images.labels, hits, len(original.labels)) for hits in right)
    return Price(
        accuracy=Metric(value=float(right[1].mean()), low=float(ends[0]), high=float(ends[1]), n=n),
        accuracy_drop=Metric(value=0.0 - 100 * test.difference, low=-100 * high, high=-100 * low, n=n),
        macro_drop=macro_drop(images.labels, right, len(original.labels), images.groups, confidence),
        flips=changed_decisions(original, candidate),
        expected_flips=expected_changes(original, candidate),
        moved=mean_shift(original, candidate),
        recalls=(recalls[0], recalls[1]),
        broken=() if contract is None else broken_clauses(contract, original, candidate, images, sizes),
    )


def class_recalls(labels: Ints, right: NDArray[np.bool_], classes: int) -> Floats:
    """(C,) share of each class's images that are right; NaN where it has none."""
    total = np.bincount(labels, minlength=classes).astype(np.float64)
    hits = np.bincount(labels, right, classes)
    found: Floats = np.where(total > 0, hits / np.maximum(total, 1), np.nan)
    return found


def macro_drop(
    labels: Ints, right: Sequence[NDArray[np.bool_]], classes: int, groups: Ints | None, confidence: float
) -> Metric:
    """Points of mean class recall that the second loses, with a percentile bootstrap over images or groups."""
    here = np.eye(classes)[labels]
    lost = right[0].astype(np.float64) - right[1]

    def of(weights: NDArray[np.int64]) -> Floats:
        total = weights @ here
        gaps: Floats = (weights * lost) @ here / np.maximum(total, 1)
        drops: Floats = 100 * gaps.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)
        return drops

    seen = float(of(np.ones((1, len(labels)), np.int64))[0])
    drawn = [of(weights) for weights in image_weights(len(labels), groups, seed=0, count=RESAMPLES)]
    low, high = percentiles(np.concatenate(drawn), confidence)
    return Metric(value=seen, low=low, high=high, n=len(labels))


def broken_clauses(
    contract: Contract, original: Predictions, candidate: Predictions, images: Prepared, sizes: tuple[int, int]
) -> tuple[str, ...]:
    """Clauses that the candidate breaks while the original does not, by what was measured here; and those whose verdict
    (kept, undecided, broken) gets worse. Latency is not judged by this: it is measured apart."""
    if not contract.promises:
        return ()
    groups = None if images.groups is None else [str(key) for key in images.groups]
    before, after = (
        {
            clause["key"]: clause
            for clause in certify(contract, one, images.labels, groups=groups, size_bytes=size).body["clauses"]
        }
        for one, size in zip((original, candidate), sizes, strict=True)
    )
    rank = {"kept": 0, "undecided": 1, "broken": 2}
    return tuple(
        key
        for key, clause in after.items()
        if key != _LATENCY
        and (rank[clause["verdict"]] > rank[before[key]["verdict"]] or (_misses(clause) and not _misses(before[key])))
    )


def _misses(clause: dict[str, object]) -> bool:
    """Whether the measured value itself is on the wrong side of what is promised."""
    value, promised = clause["value"], clause["promised"]
    if not isinstance(value, float) or not isinstance(promised, int | float):
        return False
    key = str(clause["key"])
    return value < promised if key == "min_coverage" or key.startswith("recall.") else value > promised
