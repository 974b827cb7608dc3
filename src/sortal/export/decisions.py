"""What a graph decides by itself, held against the run's own decision on the same images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import Decided, DecisionSpec, decide, expected_costs
from sortal.core.report import Finding, Metric
from sortal.export.parity import margins

Bools = NDArray[np.bool_]


def compare_decisions(
    decision: DecisionSpec,
    logits: NDArray[np.float32],
    unknown_score: NDArray[np.float32] | None,
    found: Decided,
    *,
    allowed: float,
    score_allowed: float,
    rows: Sequence[str],
) -> tuple[dict[str, Metric], list[Finding]]:
    """Metrics `decision_flips` and `max_fused_probability_difference`, and findings of what differs.

    A decision has flipped where answer, abstained or unknown differ. That is an error unless the original was within
    `allowed` (in probability, and in cost as a share of the largest) of deciding otherwise, or its unknown score within
    `score_allowed` (of the largest score) of its limit; then it is a warning.
    """
    expected = decide(decision, logits, unknown_score)
    gap = float(np.abs(expected.probabilities.astype(np.float64) - found.probabilities).max(initial=0.0))
    flipped = (found.index != expected.index) | (found.abstained != expected.abstained)
    flipped |= found.unknown != expected.unknown
    near = close_calls(decision, expected.probabilities, allowed) | _near_unknown(
        decision, unknown_score, score_allowed, len(logits)
    )
    metrics = {
        "decision_flips": Metric(value=float(flipped.sum()), n=len(logits)),
        "max_fused_probability_difference": Metric(value=gap if np.isfinite(gap) else None, n=len(logits)),
    }
    return metrics, _findings(gap, allowed, flipped, near, rows)


def close_calls(decision: DecisionSpec, chances: NDArray[np.float32], within: float) -> Bools:
    """(N,) whether probabilities (N, C) that differ by `within` could be decided otherwise."""
    exact = chances.astype(np.float64)
    index = exact.argmax(axis=1)
    near = margins(decision, chances) <= within
    costs = None if decision.costs is None else expected_costs(decision.costs, chances)
    if costs is not None:
        index = costs.argmin(axis=1)
    own = np.take_along_axis(exact, index[:, None], axis=1)[:, 0]
    limit = np.full(len(chances), decision.threshold)
    if decision.class_thresholds is not None:
        limit = np.maximum(limit, np.asarray(decision.class_thresholds)[index])
    near |= np.abs(own - limit) <= within
    if decision.doubts is not None:
        near |= (np.abs(exact - np.asarray(decision.doubts)) <= within).any(axis=1)
    if costs is not None and decision.cost_limit is not None:
        largest = max(float(np.max(np.asarray(decision.costs))), 1e-12)
        near |= np.abs(costs.min(axis=1) - decision.cost_limit) / largest <= within
    return near


def _near_unknown(decision: DecisionSpec, score: NDArray[np.float32] | None, within: float, images: int) -> Bools:
    if decision.unknown is None or score is None:
        return np.zeros(images, bool)
    largest = max(float(np.abs(score).max(initial=0.0)), 1.0)
    return np.asarray(np.abs(score.astype(np.float64) - decision.unknown.threshold) <= within * largest)


def _findings(gap: float, allowed: float, flipped: Bools, near: Bools, rows: Sequence[str]) -> list[Finding]:
    found = []
    if not gap <= allowed:
        message = f"a probability that the graph gives out differs by {gap:.3g}, over {allowed:g}"
        found.append(Finding(code="fused_probabilities_differ", severity="error", message=message))
    serious, close = np.flatnonzero(flipped & ~near), np.flatnonzero(flipped & near)
    if len(serious):
        message = f"{len(serious)} of {len(flipped)} images are decided otherwise inside the graph"
        named = tuple(rows[row] for row in serious[:1000])
        found.append(Finding(code="fused_decisions_differ", severity="error", message=message, rows=named))
    if len(close):
        message = f"{len(close)} decisions inside the graph differ where {allowed:g} decided"
        named = tuple(rows[row] for row in close[:1000])
        found.append(Finding(code="fused_ties_differ", severity="warning", message=message, rows=named))
    return found
