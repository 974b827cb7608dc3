"""The risk-coverage curve: how many of the answers given are wrong when only the surest are given.

Geifman and El-Yaniv (2017), "Selective classification for deep neural networks". Risk is the share of wrong answers
among those given, coverage the share given. Answers that are equally sure come in no order: inside a tie the curve is
what a random order gives on average.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sortal.core.publish import publish_file
from sortal.core.report import Cell, Table
from sortal.core.shares import wilson
from sortal.evaluate.drawing.canvas import NEUTRAL, WRONG, dress, new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """(N,) each, for the surest 1, 2 ... N answers given."""

    coverage: Floats
    risk: Floats
    wrong: Floats
    """Mistakes among them; fractions inside ties."""
    scores: Floats
    """The sureness of the last one given."""

    @property
    def aurc(self) -> float:
        """Area under the curve: the mean risk over all coverages, 0 to 1, lower is better."""
        return float(self.risk.mean()) if len(self.risk) else 0.0

    @property
    def excess(self) -> float:
        """The area beyond that of an order which puts all mistakes last (E-AURC: Geifman et al. 2019)."""
        return self.aurc - least_area(len(self.wrong), round(float(self.wrong[-1]))) if len(self.wrong) else 0.0


def risk_coverage(sureness: NDArray[np.float32] | Floats, wrong: Bools) -> RiskCoverage:
    """The curve of answers with `sureness` (N,), of any scale, of which some are wrong (N,)."""
    scores = np.asarray(sureness, np.float64)
    order = np.argsort(-scores, kind="stable")
    sorted_scores, count = scores[order], len(scores)
    numbers = np.arange(1.0, count + 1)
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)) + 1, count) if count else np.zeros(0, np.int64)
    total = np.cumsum(wrong[order].astype(np.float64))
    known = np.concatenate([[0.0], total[ends - 1]])
    mistakes = np.interp(numbers, np.concatenate([[0.0], ends]), known) if count else np.zeros(0)
    return RiskCoverage(coverage=numbers / max(count, 1), risk=mistakes / numbers, wrong=mistakes, scores=sorted_scores)


def least_area(images: int, wrong: int) -> float:
    """The area under the curve where all `wrong` answers come last: about r + (1 - r) log(1 - r) for their share r."""
    given = np.arange(images - wrong + 1, images + 1, dtype=np.float64)
    return float(((given - (images - wrong)) / given).sum() / max(images, 1))


def risk_at(curve: RiskCoverage, coverage: float) -> tuple[float, float]:
    """Risk, and the least sureness of an answer, when the given share of images (rounded up) is answered; 0 to 1."""
    if not len(curve.risk):
        return 0.0, 0.0
    place = int(np.clip(np.ceil(coverage * len(curve.risk) - 1e-9) - 1, 0, len(curve.risk) - 1))
    return float(curve.risk[place]), float(curve.scores[place])


def coverage_at(curve: RiskCoverage, risk: float) -> float:
    """The largest coverage with at most that risk; 0 where even the surest answers have more."""
    held = np.flatnonzero(curve.risk <= risk + 1e-12)
    return float(curve.coverage[held[-1]]) if len(held) else 0.0


def risk_coverage_table(curve: RiskCoverage, *, confidence: float = 0.95) -> Table:
    """Error at round coverages, with its interval and the threshold that leads there."""
    rows: list[tuple[Cell, ...]] = []
    for coverage in COVERAGES if len(curve.risk) else ():
        risk, score = risk_at(curve, coverage)
        given = int(np.clip(np.ceil(coverage * len(curve.risk) - 1e-9), 1, len(curve.risk)))
        low, high = wilson(risk * given, given, confidence)
        rows.append((coverage, given, risk, float(low), float(high), score))
    return Table(columns=("coverage", "answered", "error", "error_low", "error_high", "threshold"), rows=tuple(rows))


def draw_risk_coverage(
    curve: RiskCoverage,
    path: Path,
    *,
    chosen: tuple[float, float] | None = None,
    max_error: float | None = None,
    min_coverage: float | None = None,
) -> None:
    """The curve as PNG, with the chosen (coverage, error) and the limits of a contract. Raises MachineError."""
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    axes.plot(
        curve.coverage, curve.risk, color="#0b5cad", linewidth=1.8, label=f"mean error over coverages {curve.aurc:.2%}"
    )
    _limits(axes, max_error, min_coverage)
    if chosen is not None:
        label = f"chosen: {chosen[0]:.1%} answered, {chosen[1]:.2%} wrong"
        axes.plot([chosen[0]], [chosen[1]], "o", color=NEUTRAL, markersize=8, label=label)
    top = max([*_shown(curve), max_error or 0.0, 0.0 if chosen is None else chosen[1]], default=0.0)
    axes.set_ylim(0.0, 1.15 * top or 0.01)
    axes.set_xlim(0.0, 1.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    title = f"Error when only the surest are answered: {len(curve.risk):,} images"
    dress(axes, title, "coverage: share of images answered", "share wrong among the answered")
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    publish_file(path, png(figure, dpi=130))


def _limits(axes: Axes, max_error: float | None, min_coverage: float | None) -> None:
    if max_error is not None:
        label = f"contract: at most {max_error:.2%} wrong"
        axes.axhline(max_error, color=WRONG, linewidth=1.1, linestyle="--", label=label)
    if min_coverage is not None:
        label = f"contract: at least {min_coverage:.0%} answered"
        axes.axvline(min_coverage, color=WRONG, linewidth=1.1, linestyle=":", label=label)


def _shown(curve: RiskCoverage) -> Sequence[float]:
    """Risks that the picture has to hold: the first few may be wrong and would flatten it."""
    return [float(value) for value in curve.risk[len(curve.risk) // 20 :]]
