"""One picture of unknown scores: known images, images of classes that the classifier lacks, and the threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import DecisionSpec
from sortal.core.predictions import Predictions
from sortal.core.publish import publish_file
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, new_figure, png

TITLE = "how strange known and foreign images look"
FEWEST = 20
"""Known images below which a distribution is not drawn."""

_BINS = 40
_EDGE = 0.002
"""Share of the scores on either side that the axis leaves out."""

Bools = NDArray[np.bool_]


def draw_unknown(
    predictions: Predictions, labels: NDArray[np.int64], foreign: Bools, decision: DecisionSpec, folder: Path
) -> dict[str, Path]:
    """Draw `unknown_scores.png` from labels (N,), -1 where unknown, and `foreign` (N,): images of other classes.

    Empty where there is no score, or fewer than 20 known images.
    """
    readable = predictions.index >= 0
    known = readable & (labels >= 0)
    if predictions.unknown_score is None or decision.unknown is None or known.sum() < FEWEST:
        return {}
    parts = {"known": predictions.unknown_score[known], "foreign": predictions.unknown_score[readable & foreign]}
    path = folder / "unknown_scores.png"
    publish_file(path, _picture(parts, decision.unknown.threshold, decision.unknown.method))
    return {TITLE: path}


def _picture(parts: dict[str, NDArray[np.float32]], threshold: float, method: str) -> bytes:
    figure = new_figure(7.0, 3.2)
    axes = figure.add_subplot()
    joined = np.append(np.concatenate(list(parts.values())), threshold)
    ends = np.quantile(joined, [_EDGE, 1.0 - _EDGE])
    edges = np.linspace(min(ends[0], threshold), max(ends[1], threshold) + 1e-6, _BINS + 1)
    for (name, scores), color in zip(parts.items(), (RIGHT, WRONG), strict=True):
        if len(scores):
            weights = np.full(len(scores), 100.0 / len(scores))
            beyond = float((scores.astype(np.float64) > threshold).mean())
            label = f"{name}: {len(scores):,} images, {beyond:.1%} called unknown"
            inside = np.clip(scores, edges[0], edges[-1])
            axes.hist(inside, edges.tolist(), weights=weights, color=color, alpha=0.55, label=label)
    axes.axvline(threshold, color=NEUTRAL, linestyle="--", linewidth=1.2, label=f"unknown from {threshold:.3g}")
    dress(axes, TITLE, f"unknown score ({method}), higher is stranger", "share of the images, %")
    axes.set_ylim(0.0, 1.25 * axes.get_ylim()[1])  # room for the legend, which hides the lines behind it
    axes.legend(loc="upper left", fontsize=8, framealpha=0.9, edgecolor="none")
    return png(figure)
