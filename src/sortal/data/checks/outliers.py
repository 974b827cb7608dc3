"""Outliers: images unlike all others, and images unlike the rest of their class.

The mean distance of an image's features to its nearest neighbors is compared with that of those neighbors (local
outlier factor, after Breunig et al. 2000, "LOF: identifying density-based local outliers"), so a loose class is not
blamed for being loose. What stands out of all images by a robust measure is listed. Needs features; neighbors are
looked for among at most REFERENCES images, so the cost grows with the number of images and no faster.

Shapes: N rows, R references, D features, K neighbors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding, Table
from sortal.data.checks.material import Material, Outcome, issues
from sortal.data.table import finding

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

NEIGHBORS = 10
REFERENCES = 10_000
LEAST_ROWS = 50
FAR = 5.0
"""Robust standard deviations above the median from which an image stands out."""
_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Neighborhood:
    """Of each of N rows its K nearest references."""

    distances: Singles
    """(N, K) ascending"""
    references: Ints
    """(N, K) positions among the references"""


def check(material: Material) -> Outcome:
    """Finding and issues `outlier`; table `outliers` counts them by class."""
    if material.features is None:
        return Outcome()
    rows = np.flatnonzero(np.isfinite(material.features).all(axis=1))
    if len(rows) < LEAST_ROWS:
        return Outcome()
    score = np.zeros(len(material.table))
    score[rows] = strangeness(material.features[rows])
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
    references = np.arange(len(features))
    if len(features) > REFERENCES:
        generator = np.random.Generator(np.random.Philox(key=seed))
        references = np.sort(generator.permutation(len(features))[:REFERENCES])
    near = nearest(features, features[references], own=references)
    reach = np.log(np.maximum(near.distances.astype(np.float64).mean(1), 1e-6))
    factor = reach - np.median(reach[references][near.references], axis=1)
    return np.minimum(_robust(factor), _robust(reach) + FAR / 2)


def nearest(features: Singles, references: Singles, *, own: Ints) -> Neighborhood:
    """The K nearest of (R, D) references by Euclidean distance; `own` (R,) says which row each reference is, so that
    no row is its own neighbor."""
    k = min(NEIGHBORS, len(references) - 1)
    place = np.full(len(features), -1, np.int64)
    place[own] = np.arange(len(own))
    squares = np.einsum("rd,rd->r", references, references)
    distances, found = np.empty((len(features), k), np.float32), np.empty((len(features), k), np.int64)
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        square = squares - 2.0 * (block @ references.T)
        mine = place[start : start + len(block)]
        square[np.flatnonzero(mine >= 0), mine[mine >= 0]] = np.inf
        part = np.argpartition(square, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(square, part, axis=1) + np.einsum("nd,nd->n", block, block)[:, None]
        order = np.argsort(values, axis=1)
        distances[start : start + len(block)] = np.sqrt(np.maximum(np.take_along_axis(values, order, axis=1), 0.0))
        found[start : start + len(block)] = np.take_along_axis(part, order, axis=1)
    return Neighborhood(distances=distances, references=found)


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
