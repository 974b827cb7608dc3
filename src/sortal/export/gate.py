"""The gate before an artifact is attached: the user's own images, from bytes to decisions, through the original and the
artifact as it will be deployed. What is refused is told with the first stage that differs and the images that show it.

    allowed: no probability differs by more than epsilon, so that only decisions within epsilon of a tie can flip;
    artifacts in integers are held to their decisions instead, see `export.coarse`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import Decided, DecisionSpec
from sortal.core.errors import BundleError, InputError
from sortal.core.preprocess import Pixels, normalize
from sortal.core.report import Finding, Metric, Report
from sortal.export.coarse import CHANGED_SHARE, COARSE, HINT, compare_coarse
from sortal.export.decisions import compare_decisions
from sortal.export.images import MADE, odd_images
from sortal.export.parity import Side, check_parity, is_equal, logits_of
from sortal.export.stages import (
    GREY_LEVELS,
    Divergence,
    Seen,
    hidden_divergence,
    look,
    unseen_divergence,
    visible_divergence,
)
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.sources import Item

EPSILON: Mapping[str, float] = {"float32": 1e-3, "float16": 2e-2}
"""By precision: how far a probability may be off, and how close two classes are where a flip is rounding.

float16: the largest difference seen was 0.0067, on 300 images of the 81 classes of Grocery Store (docs/export.md)."""

UNKNOWN_TOLERANCE: Mapping[str, float] = {"float32": 1e-2, "float16": 5e-2}
"""By precision: of unknown scores, relative to the largest."""

_BATCH = 32
_HINT = "do not deploy this artifact; export it again from its bundle"


def check_artifact(
    original: Side,
    artifact: Side,
    images: Sequence[Item],
    *,
    decision: DecisionSpec,
    precision: str = "float32",
    epsilon: float | None = None,
) -> Report:
    """Compare two ways from bytes to decisions on real images; those that cannot be read are left out.

    The report is that of `export.parity.check_parity` with the metrics `images` and `grey_levels` (the largest
    difference behind resizing), those of `export.decisions` where the artifact decides by itself, and with a finding
    `diverges_at_<stage>` of severity error before all others where the two do not agree. A few made images of odd
    shapes are shown as well, of which only the stages count, not the decisions. `epsilon` defaults to that of the
    precision. Raises InputError where no image can be read or the precision is unknown.
    """
    allowed = _allowed(precision) if epsilon is None else epsilon
    seen = [one for item in images if (one := look(original, artifact, item)) is not None]
    if not seen:
        raise InputError("none of the images for the parity check can be read", received=f"{len(images)} images")
    odd = _odd(original, artifact)
    found = visible_divergence(original, artifact, seen) or visible_divergence(original, artifact, odd)
    coarse = precision in COARSE
    report = _compared(original, artifact, seen, decision, allowed, np.inf if coarse else allowed)
    if coarse:
        report = _with_changes(report, original, artifact, seen, decision)
    else:
        report = _with_unknown(report, original, artifact, seen, decision, precision)
    if found is None and not is_equal(report):
        found = hidden_divergence(original, artifact, seen, precision=precision)
        if found.stage == "precision":
            found = replace(found, message=f"{_worst(report)}; {found.message}")
    if found is None:
        report = _with_decisions(report, original, artifact, seen, decision, allowed, _score_allowed(precision))
        found = None if is_equal(report) else Divergence(stage="decision", message=_worst(report))
    found = found or unseen_divergence(original, artifact, odd, precision=precision)
    body = report.body | {"precision": precision, "epsilon": allowed, "stage": None if found is None else found.stage}
    body |= {"grey_levels": GREY_LEVELS, "odd_images": len(odd)} | ({"changed_share": CHANGED_SHARE} if coarse else {})
    findings = report.findings if found is None else (_named(found, len(seen), coarse=coarse), *report.findings)
    grey = max(one.resize_gap for one in (*seen, *odd))
    metrics = {"images": Metric(value=float(len(seen))), "grey_levels": Metric(value=float(grey))} | report.metrics
    return report.model_copy(update={"metrics": metrics, "findings": findings, "body": body})


def _odd(original: Side, artifact: Side) -> list[Seen]:
    shown = odd_images(channels=original.preprocess.channels, depth=original.preprocess.depth)
    return [one for item in shown if (one := look(original, artifact, item)) is not None]


def _allowed(precision: str) -> float:
    if precision not in EPSILON:
        raise InputError("no epsilon is known for this precision", received=precision, hint="known: " + str([*EPSILON]))
    return EPSILON[precision]


def _compared(
    original: Side, artifact: Side, seen: Sequence[Seen], decision: DecisionSpec, tie: float, tolerance: float
) -> Report:
    """The comparison from end to end; only a finding where the artifact cannot be run on what it prepared."""
    names = [one.name for one in seen]
    pixels = np.stack([one.pixels for one in seen])
    try:
        return check_parity(
            original,
            artifact,
            pixels,
            decision=decision,
            names=names,
            tolerance=tolerance,
            tie=tie,
            artifact_pixels=_stacked(seen),
            artifact_logits=_whole_logits(seen),
        )
    except BundleError as error:
        finding = Finding(code="cannot_run", severity="error", message=f"the artifact cannot be run: {error.what}")
        return Report(kind="parity", subject=f"{artifact.name} against {original.name}", findings=(finding,))


def _whole_logits(seen: Sequence[Seen]) -> NDArray[np.float32] | None:
    """(N, C) of an artifact that was asked with upright pixels."""
    found = [one.answered.logits for one in seen if one.answered is not None]
    return np.stack(found) if found else None


def _stacked(seen: Sequence[Seen]) -> Pixels:
    shapes = {one.artifact_pixels.shape for one in seen}
    if len(shapes) > 1:
        raise BundleError("it prepares images to different sizes")
    return np.stack([one.artifact_pixels for one in seen])


def _with_unknown(
    report: Report, original: Side, artifact: Side, seen: Sequence[Seen], decision: DecisionSpec, precision: str
) -> Report:
    """Unknown scores compared, and whether an image is known, where the decision asks for it."""
    if decision.unknown is None or original.outputs is None or artifact.outputs is None or not is_equal(report):
        return report
    pixels = np.stack([one.pixels for one in seen])
    one, other = _scores(original, pixels), _artifact_scores(artifact, seen)
    if one is None or other is None or not np.isfinite(other).all():
        gap, flips = float("inf"), len(seen)
    else:
        one, other = one.astype(np.float64), other.astype(np.float64)
        gap = float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1.0))
        limit = decision.unknown.threshold
        flips = int(((one <= limit) != (other <= limit)).sum())
    metrics = report.metrics | {
        "unknown_gap": Metric(value=gap if np.isfinite(gap) else None, n=len(seen)),
        "unknown_flips": Metric(value=float(flips), n=len(seen)),
    }
    allowed = _score_allowed(precision)
    findings = report.findings
    if gap > allowed:
        message = f"unknown scores differ by {gap:.3g} of the largest, over {allowed:g}"
        findings = (*findings, Finding(code="unknown_differs", severity="error", message=message))
    return report.model_copy(update={"metrics": metrics, "findings": findings})


def _with_changes(
    report: Report, original: Side, artifact: Side, seen: Sequence[Seen], decision: DecisionSpec
) -> Report:
    """How many decisions are others; nothing where the artifact could not be compared at all."""
    if not report.metrics:
        return report
    pixels = np.stack([one.pixels for one in seen])
    metrics, findings = compare_coarse(
        decision,
        (logits_of(original, pixels), logits_of(artifact, _stacked(seen))),
        (_scores(original, pixels), _artifact_scores(artifact, seen)),
    )
    return report.model_copy(update={"metrics": report.metrics | metrics, "findings": (*report.findings, *findings)})


def _score_allowed(precision: str) -> float:
    return UNKNOWN_TOLERANCE.get(precision, 5e-2)


def _with_decisions(
    report: Report,
    original: Side,
    artifact: Side,
    seen: Sequence[Seen],
    decision: DecisionSpec,
    allowed: float,
    score_allowed: float,
) -> Report:
    """What the artifact's graph decides by itself against what the original's logits are decided to be."""
    found = _decided(artifact, seen)
    if found is None:
        return report
    pixels = np.stack([one.pixels for one in seen])
    scores = None if decision.unknown is None or original.outputs is None else _scores(original, pixels)
    metrics, findings = compare_decisions(
        decision,
        logits_of(original, pixels),
        scores,
        found,
        allowed=allowed,
        score_allowed=score_allowed,
        rows=[one.name for one in seen],
    )
    return report.model_copy(update={"metrics": report.metrics | metrics, "findings": (*report.findings, *findings)})


def _decided(artifact: Side, seen: Sequence[Seen]) -> Decided | None:
    if artifact.decided is None:
        return None
    whole = [one.answered.decided for one in seen if one.answered is not None and one.answered.decided is not None]
    if not whole:
        pixels = _stacked(seen)
        parts = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
        whole = [artifact.decided(_entered(artifact, part)) for part in parts]
    return Decided(
        probabilities=np.concatenate([one.probabilities for one in whole]),
        index=np.concatenate([one.index for one in whole]),
        unknown=np.concatenate([one.unknown for one in whole]),
        abstained=np.concatenate([one.abstained for one in whole]),
    )


def _worst(report: Report) -> str:
    return next(finding.message for finding in report.findings if finding.severity == "error")


def _artifact_scores(artifact: Side, seen: Sequence[Seen]) -> NDArray[np.float32] | None:
    whole = [one.answered.unknown_score for one in seen if one.answered is not None]
    if not whole:
        return _scores(artifact, _stacked(seen))
    return None if None in whole else np.asarray(whole, np.float32)


def _scores(side: Side, pixels: Pixels) -> NDArray[np.float32] | None:
    parts = []
    for start in range(0, len(pixels), _BATCH):
        outputs = None if side.outputs is None else side.outputs(_entered(side, pixels[start : start + _BATCH]))
        if outputs is None or outputs.unknown_score is None:
            return None
        parts.append(outputs.unknown_score)
    return np.concatenate(parts)


def _entered(side: Side, pixels: Pixels) -> NetworkInput:
    return normalize(side.preprocess, pixels) if side.enter is None else side.enter(pixels)


def _named(found: Divergence, images: int, *, coarse: bool) -> Finding:
    of = "made" if found.rows and found.rows[0].startswith(MADE) else str(images)
    shown = f"; seen in {len(found.rows)} of {of} images: {', '.join(found.rows[:3])}" if found.rows else ""
    more = " …" if len(found.rows) > 3 else ""
    return Finding(
        code=f"diverges_at_{found.stage}",
        severity="error",
        message=f"the first stage that differs is {found.stage}: {found.message}{shown}{more}",
        rows=found.rows[:1000],
        hint=HINT if coarse and found.stage == "precision" else _HINT,
    )
