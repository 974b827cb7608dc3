"""What is asked of an artifact in integers: that it decides the same, save for a stated share of images that were
close to call. Its probabilities and unknown scores are not the original's, and nobody promises that they are.

    allowed: at most `CHANGED_SHARE` of the images decided otherwise, none of them answered otherwise where the
    original's answer was ahead by more than epsilon; and logits that are the same function of the image, so that where
    all images are answered alike, another network does not pass for it

What that costs in accuracy cannot be told without labels; `sortal compress` measures it, and has a budget for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import DecisionSpec, decide
from sortal.core.report import Finding, Metric
from sortal.export.stages import ROUNDING, distance

Floats = NDArray[np.float32]

COARSE = frozenset({"int8"})
"""Precisions that are judged like this."""

CHANGED_SHARE = 0.05
"""Of all images; docs/export.md has what was seen on real ones."""

HINT = "keep float32, or let `sortal compress RUN compress.int8=true` look for an int8 within a budget of accuracy"


def compare_coarse(
    decision: DecisionSpec,
    logits: tuple[Floats, Floats],
    unknown_scores: tuple[Floats | None, Floats | None],
) -> tuple[dict[str, Metric], list[Finding]]:
    """Hold the decisions of the original and the artifact against each other, from logits (N, C) and scores (N,).

    Gives the metrics `changed`, `changed_share` (images whose answer, abstention or being unknown is another) and
    `unknown_flips`, and findings of severity error: more than `CHANGED_SHARE` changed; logits farther apart than
    rounding explains; no unknown score though the original has one and the decision asks for it.
    """
    if decision.unknown is not None and unknown_scores[0] is not None and unknown_scores[1] is None:
        return {}, [_error("unknown_differs", "there is no unknown score")]
    one, other = (decide(decision, *given) for given in zip(logits, unknown_scores, strict=True))
    moved = (one.index != other.index) | (one.abstained != other.abstained) | (one.unknown != other.unknown)
    changed, images = int(moved.sum()), len(moved)
    metrics = {
        "changed": Metric(value=float(changed), n=images),
        "changed_share": Metric(value=changed / images, n=images),
        "unknown_flips": Metric(value=float((one.unknown != other.unknown).sum()), n=images),
    }
    found = []
    if changed > CHANGED_SHARE * images:
        found.append(
            _error("decisions_changed", f"{changed} of {images} images are decided otherwise, over {CHANGED_SHARE:.0%}")
        )
    apart = distance(*logits)
    if apart > ROUNDING:
        found.append(_error("logits_differ", f"logits differ by {apart:.3g} of their spread, over {ROUNDING:g}"))
    return metrics, found


def _error(code: str, message: str) -> Finding:
    return Finding(code=code, severity="error", message=message, hint=HINT)
