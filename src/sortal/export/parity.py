"""Does the artifact answer as the original does? The same prepared pixels through both, compared decision by decision.

Small differences of float32 are the rule; what counts is whether a decision flips and how close the closest one came.
Which two sides are compared is up to the caller: a live module and an artifact, two engines, two precisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import Decided, DecisionSpec, decide_from_probabilities, expected_costs, probabilities
from sortal.core.errors import BundleError, InputError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec, normalize
from sortal.core.report import Finding, Metric, Report, Table
from sortal.runtime.engines.protocol import Outputs
from sortal.runtime.network_input import NetworkInput
from sortal.runtime.sources import Raw

Run = Callable[[NetworkInput], NDArray[np.float32]]
"""A batch of what the graph takes to logits (N, C)."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What one image was answered by a graph that does everything from upright pixels."""

    logits: NDArray[np.float32]
    """(C,)"""
    unknown_score: float | None
    decided: Decided | None
    """What the graph itself decided, with a single row; None where it decides nothing."""


BATCHES = (1, 2, 7, 32)
"""Sizes cut from the front of the images to see that the batch is free: one, even, odd, full."""

TIE = 1e-3
"""A flip where the original's two best classes lie closer than this in probability is a tie that rounding decided."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared: a whole way from bytes to logits, of which each part can be another's."""

    name: str
    run: Run
    labels: LabelSet
    preprocess: PreprocessSpec
    decode: Callable[[Raw], Pixels] | None = None
    """Bytes or arrays to upright pixels; as everything here does it where None."""
    prepare: Callable[[Pixels], Pixels] | None = None
    """Upright pixels to those of the network's size; by `preprocess` where None."""
    enter: Callable[[Pixels], NetworkInput] | None = None
    """Prepared pixels (N, height, width, channels) to what `run` takes; normalized by `preprocess` where None."""
    normalized: Callable[[Pixels], NDArray[np.float32]] | None = None
    """What the network behind fused normalization sees of prepared pixels; where it cannot be looked at, None."""
    outputs: Callable[[NetworkInput], Outputs] | None = None
    """As `run`, but everything that the graph gives out; None where there is no graph."""
    decided: Callable[[NetworkInput], Decided] | None = None
    """What the graph itself decides of what `run` takes; None where it gives out logits only."""
    whole: Callable[[Pixels], Answered] | None = None
    """The way from upright pixels (height, width, channels) in one go, for graphs that resize. `prepare` is then their
    own resizing, and `run` what follows it."""

    def logits(self, pixels: Pixels) -> NDArray[np.float32]:
        """(N, C) of prepared pixels."""
        return self.run(normalize(self.preprocess, pixels) if self.enter is None else self.enter(pixels))


def check_parity(
    original: Side,
    artifact: Side,
    pixels: Pixels,
    *,
    decision: DecisionSpec | None = None,
    names: Sequence[str] = (),
    tolerance: float = 1e-3,
    tie: float = TIE,
    artifact_pixels: Pixels | None = None,
    artifact_logits: NDArray[np.float32] | None = None,
) -> Report:
    """Compare two sides on prepared pixels (N, height, width, channels). Each side normalizes by its own spec; where
    the artifact's were prepared in a way of its own, they are `artifact_pixels`, and `artifact_logits` (N, C) what it
    answered if it was asked with upright pixels.

    The report (kind `parity`) has the metrics max_logit_difference, mean_logit_difference,
    max_probability_difference, flips, flip_rate, withheld_flips (given by one side only), smallest_margin (of the
    original's answers, in probability, or in expected cost where there are costs) and a finding of
    severity error where the two disagree on a decision by more than a tie, on any probability by more than
    `tolerance` (right for float32; lower precisions need more, as for `tie`), on classes, preprocessing or batch size.
    `names` name the rows.
    Raises InputError where there are no images.
    """
    if not len(pixels):
        raise InputError("parity needs at least one image")
    rows = names or [f"input[{row}]" for row in range(len(pixels))]
    theirs = pixels if artifact_pixels is None else artifact_pixels
    findings = [*_specs_differ(original, artifact), *_batches_differ(artifact, theirs, tie)]
    first = logits_of(original, pixels)
    second = logits_of(artifact, theirs) if artifact_logits is None else artifact_logits
    if first.shape != second.shape:
        findings.append(_error("classes_differ", f"logits of shape {first.shape} and {second.shape}"))
        return _report(original, artifact, {}, {}, findings, tie)
    compared = _Compared(first, second, decision or DecisionSpec(), tie)
    findings += compared.findings(rows, tolerance)
    tables = {"flips": compared.table(rows, original.labels)}
    return _report(original, artifact, compared.metrics(), tables, findings, tie)


def is_equal(report: Report) -> bool:
    """Whether a parity report has no finding of severity error."""
    return all(finding.severity != "error" for finding in report.findings)


def logits_of(side: Side, pixels: Pixels) -> NDArray[np.float32]:
    """(N, C) of prepared pixels, in batches."""
    batch = max(BATCHES)
    return np.concatenate([side.logits(pixels[start : start + batch]) for start in range(0, len(pixels), batch)])


class _Compared:
    """Two sets of logits (N, C) over the same images and what follows from them."""

    def __init__(self, first: NDArray[np.float32], second: NDArray[np.float32], decision: DecisionSpec, tie: float):
        self.tie = tie
        self.logit_gap = np.abs(first.astype(np.float64) - second)
        self.chances = probabilities(decision, first), probabilities(decision, second)
        self.probability_gap = np.abs(self.chances[0].astype(np.float64) - self.chances[1])
        decided = tuple(decide_from_probabilities(decision, chances) for chances in self.chances)
        self.answers = decided[0].index, decided[1].index
        self.withheld = np.flatnonzero(decided[0].abstained != decided[1].abstained)
        self.margins = margins(decision, self.chances[0])
        self.flips = np.flatnonzero(self.answers[0] != self.answers[1])

    def metrics(self) -> dict[str, Metric]:
        n = len(self.margins)
        values = {
            "max_logit_difference": float(self.logit_gap.max()),
            "mean_logit_difference": float(self.logit_gap.mean()),
            "max_probability_difference": float(self.probability_gap.max()),
            "flips": float(len(self.flips)),
            "flip_rate": len(self.flips) / n,
            "withheld_flips": float(len(self.withheld)),
            "smallest_margin": float(self.margins.min()),
        }
        return {name: Metric(value=value if np.isfinite(value) else None, n=n) for name, value in values.items()}

    def findings(self, rows: Sequence[str], tolerance: float) -> list[Finding]:
        if not np.isfinite(self.logit_gap).all():
            return [_error("not_finite", "logits are not finite")]
        serious = [int(row) for row in self.flips if self.margins[row] > self.tie]
        ties = [int(row) for row in self.flips if self.margins[row] <= self.tie]
        found = []
        apart = float(self.probability_gap.max())
        if apart > tolerance:
            found.append(_error("probabilities_differ", f"a probability differs by {apart:.3g}, over {tolerance:g}"))
        if serious:
            message = f"{len(serious)} of {len(self.margins)} decisions differ by more than a tie"
            found.append(_error("decisions_differ", message, [rows[row] for row in serious]))
        if ties:
            message = f"{len(ties)} decisions differ where two classes were within {self.tie:g} of each other"
            named = tuple(rows[row] for row in ties[:1000])
            found.append(Finding(code="ties_differ", severity="warning", message=message, rows=named))
        return found

    def table(self, rows: Sequence[str], labels: LabelSet) -> Table:
        names = labels.names
        cells = [
            (rows[row], names[self.answers[0][row]], names[self.answers[1][row]], float(self.margins[row]))
            for row in self.flips.tolist()
        ]
        return Table(columns=("image", "original", "artifact", "margin"), rows=tuple(cells))


def margins(decision: DecisionSpec, chances: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) how far the answer is ahead of the next: in probability, or in expected cost as a share of the largest."""
    if chances.shape[1] < 2:
        return np.ones(len(chances))
    if decision.costs is None:
        top = np.sort(chances.astype(np.float64), axis=1)
        return np.asarray(top[:, -1] - top[:, -2])
    expected = np.sort(expected_costs(decision.costs, chances), axis=1)
    return np.asarray((expected[:, 1] - expected[:, 0]) / max(float(np.max(decision.costs)), 1e-12))


def _specs_differ(original: Side, artifact: Side) -> list[Finding]:
    found = []
    if original.preprocess != artifact.preprocess:
        one, other = original.preprocess.model_dump(), artifact.preprocess.model_dump()
        wrong = ", ".join(f"{key}: {one[key]} / {other[key]}" for key in one if one[key] != other[key])
        found.append(_error("preprocess_differs", f"the images are prepared differently: {wrong}"))
    return found + _labels_differ(original, artifact)


def _labels_differ(original: Side, artifact: Side) -> list[Finding]:
    if original.labels.names == artifact.labels.names:
        return []
    wrong = [
        f"{index}: {one} / {other}"
        for index, (one, other) in enumerate(zip(original.labels.names, artifact.labels.names, strict=False))
        if one != other
    ]
    detail = ", ".join(wrong[:5]) or f"{len(original.labels)} and {len(artifact.labels)} classes"
    return [_error("labels_differ", f"the classes are not the same in the same order: {detail}")]


def _batches_differ(artifact: Side, pixels: Pixels, limit: float) -> list[Finding]:
    """Run the artifact at several batch sizes; an image's logits may not depend on its neighbors."""
    found = []
    alone = None
    for size in [size for size in BATCHES if size <= len(pixels)]:
        try:
            logits = artifact.logits(pixels[:size])
        except BundleError as error:
            found.append(_error("batch_refused", f"batch {size} cannot be run: {error.what}"))
            continue
        alone = logits[:1] if alone is None else alone
        if logits.shape[0] != size or np.abs(logits[:1] - alone).max() > limit:
            found.append(_error("batch_differs", f"the first image is answered differently in a batch of {size}"))
    return found


def _error(code: str, message: str, rows: Sequence[str] = ()) -> Finding:
    return Finding(
        code=code,
        severity="error",
        message=message,
        rows=tuple(rows[:1000]),
        hint="do not deploy this artifact; export it again from its bundle",
    )


def _report(
    original: Side,
    artifact: Side,
    metrics: dict[str, Metric],
    tables: dict[str, Table],
    findings: list[Finding],
    tie: float,
) -> Report:
    return Report(
        kind="parity",
        subject=f"{artifact.name} against {original.name}",
        metrics=metrics,
        tables=tables,
        findings=tuple(findings),
        body={"original": original.name, "artifact": artifact.name, "batches": list(BATCHES), "tie": tie},
    )
