"""One class against the rest: how many of its images are missed and how many others are reported as it, by threshold.

For inspection: the class is the defect. Miss rate = its images not reported / its images. False-detection rate =
other images reported as it / other images. Choosing the threshold belongs to the contract, not here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Table
from sortal.evaluate.measure.grouped import Sample, share_interval
from sortal.evaluate.measure.intervals import wilson

THRESHOLDS = (0.0, 0.001, 0.002, 0.005, *(step / 100 for step in range(1, 100)), 0.995, 0.998, 0.999, 1.0)


def threshold_curve(
    scores: NDArray[np.float32],
    positive: NDArray[np.bool_],
    confidence: float = 0.95,
    *,
    sample: Sample | None = None,
) -> Table:
    """One row a threshold: an image is reported when its score (N,) is at least the threshold.

    `positive` (N,) says which images are of the class. Rates are None where there is no image to compute them from;
    their intervals count the groups of `sample` where it has any.
    """
    limits = np.asarray(THRESHOLDS)
    missed = np.searchsorted(np.sort(scores[positive].astype(np.float64)), limits, side="left")
    false = (~positive).sum() - np.searchsorted(np.sort(scores[~positive].astype(np.float64)), limits, side="left")
    if sample is not None and sample.groups is not None:
        reported = [scores.astype(np.float64) >= limit for limit in THRESHOLDS]
        miss = [_grouped_rate(sample, ~hits, positive) for hits in reported]
        detection = [_grouped_rate(sample, hits, ~positive) for hits in reported]
    else:
        miss = _rates(missed, int(positive.sum()), confidence)
        detection = _rates(false, int((~positive).sum()), confidence)
    names = ("miss_rate", "false_detection_rate")
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    rows = zip(THRESHOLDS, missed.tolist(), false.tolist(), miss, detection, strict=True)
    return Table(
        columns=("threshold", "missed", "false_detections", *columns),
        rows=tuple((limit, lost, extra, *first, *second) for limit, lost, extra, first, second in rows),
    )


def _grouped_rate(sample: Sample, hits: NDArray[np.bool_], members: NDArray[np.bool_]) -> tuple[float | None, ...]:
    if not members.any():
        return (None, None, None)
    return (float(hits[members].mean()), *share_interval(sample, hits, members))


def _rates(count: NDArray[np.int64], total: int, confidence: float) -> list[tuple[float | None, ...]]:
    if not total:
        return [(None, None, None)] * len(count)
    low, high = wilson(count, np.full(len(count), total), confidence)
    return list(zip((count / total).tolist(), low.tolist(), high.tolist(), strict=True))
