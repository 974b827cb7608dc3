"""Outliers: images unlike all others, and images unlike the rest of their class.

The mean distance of an image's features to its nearest neighbors is compared with that of those neighbors (local
outlier factor, after Breunig et al. 2000, "LOF: identifying density-based local outliers"), so a loose class is not
blamed for being loose. What stands out of all images by a robust measure is listed. Needs features; neighbors are
looked for among at most REFERENCES images, so the cost grows with the number of images and no faster.

Shapes: N rows, D features.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding, Table
from sortal.data.checks.material import Material, Outcome, issues
from sortal.data.neighbors import nearest, references
from sortal.data.table import finding

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

NEIGHBORS = 10
REFERENCES = 10_000
LEAST_ROWS = 50
FAR = 5.0
"""Robust standard deviations above the median from which an image stands out."""


def check(material: Material) -> Outcome:
    """Finding and issues `outlier`; table `outliers` counts them by class."""
    if material.features is None:
        return Outcome()
    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.flatnonzero(np.isfinite(material.features.sum(axis=1)))
    if len(rows) < LEAST_ROWS:
        return Outcome()
    score = np.zeros(len(material.table))
    score[rows] = strangeness(material.features if len(rows) == len(score) else material.features[rows])
    far = np.flatnonzero(score >= FAR)
    far = far[np.argsort(-score[far], kind="stable")]
    if not len(far):
        return Outcome()
    return _told(material, far, score[far])


def strangeness(features: Singles, *, seed: int = 0) -> NDArray[np.float64]:
    """(N,) how many robust standard deviations the local outlier factor of (N, D) features is above the median.

    The logarithm of the factor is judged: it is nearly normal where there is no outlier. Half the width of the middle
    half (quartiles) is the measure, which up to a quarter of outliers cannot move.
    """
    chosen = references(len(features), REFERENCES, seed=seed)
    near = nearest(features, chosen, np.arange(len(features)), count=NEIGHBORS)
    reach = np.log(np.maximum(np.sqrt(near.squares.astype(np.float64)).mean(1), 1e-6))
    factor = reach - np.median(reach[chosen][near.references], axis=1)
    return np.minimum(_robust(factor), _robust(reach) + FAR / 2)


def _robust(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return np.asarray((values - middle) / max((high - low) / 1.349, 1e-9))


def _told(material: Material, far: Ints, score: NDArray[np.float64]) -> Outcome:
    table = material.table
    names, labels = table.name_series()[far], table.label_array()
    message = f"{len(far):,} images are unlike all others: {', '.join(names.head(3).to_list())}"
    hint = "look at them: another object, a wrong region, a test picture; leave out what production will never see"
    found: Finding = finding("outlier", "info", message, names.head(1000), hint)
    counted = _by_class(table.labels.names, labels, labels[far])
    listed: pl.DataFrame = issues(
        "outlier",
        "info",
        names,
        score=(score / (score + FAR)).tolist(),
        value=[f"{value:.1f} robust standard deviations" for value in score],
    )
    return Outcome(findings=(found,), issues=listed, tables={"outliers": counted}, body={"outliers": len(far)})


def _by_class(names: tuple[str, ...], labels: Ints, far: Ints) -> Table:
    have = np.bincount(labels[labels >= 0], minlength=len(names))
    counts = np.bincount(far[far >= 0], minlength=len(names))
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    rows = tuple((names[i], int(counts[i]), int(have[i]), round(float(counts[i] / have[i]), 4)) for i in order)
    return Table(columns=("class", "outliers", "images", "share"), rows=rows)
