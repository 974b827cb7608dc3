"""How far probabilities can be taken at their word: calibration errors, Brier score, log loss, the reliability curve.

Bins hold equally many images (Nixon et al. 2019, "Measuring calibration in deep learning"; equal widths leave most of
them empty). A binned error is above zero even where probabilities are perfect; what chance alone shows is returned
beside it, and the squared form can be freed of that bias (Kumar et al. 2019, "Verified uncertainty calibration").

Shapes: N images, C classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.publish import publish_file
from sortal.core.report import Table
from sortal.core.shares import wilson
from sortal.evaluate.drawing.canvas import NEUTRAL, dress, new_figure, png

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BINS = 15
LEAST_CHANCE = float(np.finfo(np.float64).eps)
"""A probability of zero counts as this much in the log loss, as in scikit-learn."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """(B,) each: images in the bin, their mean stated probability, the share that was right, and its interval."""

    images: Ints
    stated: Floats
    right: Floats
    low: Floats
    high: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance between stated probability and share, 0 to 1, by images."""
        return float((self.images * np.abs(self.stated - self.right)).sum() / max(self.images.sum(), 1))

    @property
    def by_chance(self) -> float:
        """About what `error` would be if every stated probability were true: the bins' mean half-normal deviation."""
        spread = np.sqrt(self.stated * (1 - self.stated) / np.maximum(self.images, 1))
        return float(np.sqrt(2 / np.pi) * (self.images * spread).sum() / max(self.images.sum(), 1))

    @property
    def debiased(self) -> float:
        """Root of the mean squared distance, less what chance adds to it; 0 where nothing is left. Bins of one image
        say nothing and are left out."""
        some = self.images > 1
        n, gap = self.images[some], np.square(self.stated - self.right)[some]
        noise = (self.right * (1 - self.right))[some] / (n - 1) if some.any() else 0.0
        return float(np.sqrt(max(0.0, (n * (gap - noise)).sum() / max(n.sum(), 1))))


def reliability(stated: Singles | Floats, right: Bools, *, bins: int = BINS, confidence: float = 0.95) -> Reliability:
    """The curve of stated probabilities (N,) against what was right (N,), in at most `bins` bins of equal mass.

    Equal probabilities are never divided, so that the order of images does not matter; fewer bins where images are few
    (at least 5 in each).
    """
    order = np.argsort(stated, kind="stable")
    values, hits = np.asarray(stated, np.float64)[order], right[order].astype(np.float64)
    starts = _starts(values, max(1, min(bins, len(values) // 5)))
    images = np.diff([*starts, len(values)]).astype(np.int64)
    total = np.add.reduceat(hits, starts) if len(values) else np.zeros(0)
    mean = np.add.reduceat(values, starts) / images if len(values) else np.zeros(0)
    low, high = wilson(total, images, confidence)
    return Reliability(images=images, stated=mean, right=total / np.maximum(images, 1), low=low, high=high)


def classwise_error(probabilities: Singles, labels: Ints, *, bins: int = BINS) -> float:
    """Mean over the classes of the calibration error of each class's probability (N, C): Kull et al. 2019."""
    errors = [
        reliability(probabilities[:, index], labels == index, bins=bins).error
        for index in range(probabilities.shape[1])
    ]
    return float(np.mean(errors))


def brier_scores(probabilities: Singles, labels: Ints) -> Floats:
    """(N,) squared distance between probabilities and truth, 0 to 2: Brier (1950), "Verification of forecasts"."""
    chances = probabilities.astype(np.float64)
    own = chances[np.arange(len(labels)), labels]
    return np.asarray(np.square(chances).sum(axis=1) - 2 * own + 1)


def log_losses(probabilities: Singles, labels: Ints) -> Floats:
    """(N,) minus the logarithm of the true class's probability, in nats."""
    own = probabilities.astype(np.float64)[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(own, LEAST_CHANCE, 1.0)))


def reliability_table(curve: Reliability) -> Table:
    """One row a bin."""
    columns = ("images", "stated", "right", "right_low", "right_high")
    cells = (curve.images, curve.stated, curve.right, curve.low, curve.high)
    rows = zip(*(part.tolist() for part in cells), strict=True)
    return Table(columns=columns, rows=tuple(rows))


def draw_reliability(curve: Reliability, path: Path, *, before: Reliability | None = None) -> None:
    """The curve as PNG, with intervals, and `before` calibration where it is given. Raises MachineError."""
    figure = new_figure(5.6, 5.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=1.0, linestyle=":", label="what is stated is true")
    if before is not None:
        label = f"before calibration (error {before.error:.1%})"
        axes.plot(before.stated, before.right, "s--", color="#8c959f", markersize=4, linewidth=1.0, label=label)
    ends = np.abs(np.stack([curve.right - curve.low, curve.high - curve.right]))
    label = f"now (error {curve.error:.1%}; chance alone: about {curve.by_chance:.1%})"
    axes.errorbar(
        curve.stated, curve.right, yerr=ends, fmt="o-", color="#0b5cad", markersize=5, linewidth=1.4, label=label
    )
    low = min([0.95, *curve.stated, *curve.low, *([] if before is None else before.stated)])
    axes.set_xlim(max(0.0, low - 0.03), 1.01)
    axes.set_ylim(max(0.0, low - 0.03), 1.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    dress(axes, f"Reliability: {int(curve.images.sum()):,} images", "stated probability of the answer", "share right")
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    publish_file(path, png(figure, dpi=130))


def _starts(values: Floats, bins: int) -> Ints:
    """Where the bins of sorted values begin: equal counts, moved to where the value changes."""
    if not len(values):
        return np.zeros(0, np.int64)
    wanted = np.round(np.arange(bins) * len(values) / bins).astype(np.int64)
    return np.unique(np.searchsorted(values, values[wanted], side="left")).astype(np.int64)
