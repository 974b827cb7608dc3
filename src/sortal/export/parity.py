"""Does the artifact answer as the original does? The same prepared pixels through both, compared decision by decision.

Small differences of float32 are the rule; what counts is whether a decision flips and how close the closest one came.
Which two sides are compared is up to the caller: a live module and an artifact, two engines, two precisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import DecisionSpec, probabilities
from sortal.core.errors import BundleError, InputError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec, normalize
from sortal.core.report import Finding, Metric, Report, Table

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, channels, height, width) float32 to logits (N, C)."""

BATCHES = (1, 2, 7, 32)
"""Sizes cut from the front of the images to see that the batch is free: one, even, odd, full."""

TIE = 1e-3
"""A flip where the original's two best classes lie closer than this in probability is a tie that rounding decided."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared."""

    name: str
    run: Run
    labels: LabelSet
    preprocess: PreprocessSpec


def check_parity(
    original: Side,
    artifact: Side,
    pixels: Pixels,
    *,
    decision: DecisionSpec | None = None,
    names: Sequence[str] = (),
    tolerance: float = 1e-3,
) -> Report:
    """Compare two sides on prepared pixels (N, height, width, channels). Each side normalizes by its own spec.

    The report (kind `parity`) has the metrics max_logit_difference, mean_logit_difference,
    max_probability_difference, flips, smallest_margin (of the original's answers, in probability) and a finding of
    severity error where the two disagree on a decision by more than a tie, on any probability by more than
    `tolerance` (right for float32; lower precisions need more), on classes, preprocessing or batch size. `names` name
    the rows.
    Raises InputError where there are no images.
    """
    if not len(pixels):
        raise InputError("parity needs at least one image")
    rows = names or [f"input[{row}]" for row in range(len(pixels))]
    findings = [*_specs_differ(original, artifact), *_batches_differ(artifact, pixels)]
    first, second = (_run_all(side, pixels) for side in (original, artifact))
    if first.shape != second.shape:
        findings.append(_error("classes_differ", f"logits of shape {first.shape} and {second.shape}"))
        return _report(original, artifact, {}, {}, findings)
    compared = _Compared(first, second, decision or DecisionSpec())
    findings += compared.findings(rows, tolerance)
    return _report(original, artifact, compared.metrics(), {"flips": compared.table(rows, original.labels)}, findings)


def is_equal(report: Report) -> bool:
    """Whether a parity report has no finding of severity error."""
    return all(finding.severity != "error" for finding in report.findings)


class _Compared:
    """Two sets of logits (N, C) over the same images and what follows from them."""

    def __init__(self, first: NDArray[np.float32], second: NDArray[np.float32], decision: DecisionSpec):
        self.logit_gap = np.abs(first.astype(np.float64) - second)
        self.chances = probabilities(decision, first), probabilities(decision, second)
        self.probability_gap = np.abs(self.chances[0].astype(np.float64) - self.chances[1])
        self.answers = self.chances[0].argmax(axis=1), self.chances[1].argmax(axis=1)
        top = np.sort(self.chances[0].astype(np.float64), axis=1)
        self.margins = top[:, -1] - top[:, -2] if top.shape[1] > 1 else np.ones(len(top))
        self.flips = np.flatnonzero(self.answers[0] != self.answers[1])

    def metrics(self) -> dict[str, Metric]:
        n = len(self.margins)
        values = {
            "max_logit_difference": float(self.logit_gap.max()),
            "mean_logit_difference": float(self.logit_gap.mean()),
            "max_probability_difference": float(self.probability_gap.max()),
            "flips": float(len(self.flips)),
            "smallest_margin": float(self.margins.min()),
        }
        return {name: Metric(value=value if np.isfinite(value) else None, n=n) for name, value in values.items()}

    def findings(self, rows: Sequence[str], tolerance: float) -> list[Finding]:
        if not np.isfinite(self.logit_gap).all():
            return [_error("not_finite", "logits are not finite")]
        serious = [int(row) for row in self.flips if self.margins[row] > TIE]
        ties = [int(row) for row in self.flips if self.margins[row] <= TIE]
        found = []
        apart = float(self.probability_gap.max())
        if apart > tolerance:
            found.append(_error("probabilities_differ", f"a probability differs by {apart:.3g}, over {tolerance:g}"))
        if serious:
            message = f"{len(serious)} of {len(self.margins)} decisions differ by more than a tie"
            found.append(_error("decisions_differ", message, [rows[row] for row in serious]))
        if ties:
            message = f"{len(ties)} decisions differ where two classes were within {TIE:g} of each other"
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


def _run_all(side: Side, pixels: Pixels) -> NDArray[np.float32]:
    batch = max(BATCHES)
    parts = [
        side.run(normalize(side.preprocess, pixels[start : start + batch])) for start in range(0, len(pixels), batch)
    ]
    return np.concatenate(parts)


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


def _batches_differ(artifact: Side, pixels: Pixels) -> list[Finding]:
    """Run the artifact at several batch sizes; an image's logits may not depend on its neighbors."""
    found = []
    ready = normalize(artifact.preprocess, pixels[: max(BATCHES)])
    alone = None
    for size in [size for size in BATCHES if size <= len(ready)]:
        try:
            logits = artifact.run(ready[:size])
        except BundleError as error:
            found.append(_error("batch_refused", f"batch {size} cannot be run: {error.what}"))
            continue
        alone = logits[:1] if alone is None else alone
        if logits.shape[0] != size or np.abs(logits[:1] - alone).max() > TIE:
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
    original: Side, artifact: Side, metrics: dict[str, Metric], tables: dict[str, Table], findings: list[Finding]
) -> Report:
    return Report(
        kind="parity",
        subject=f"{artifact.name} against {original.name}",
        metrics=metrics,
        tables=tables,
        findings=tuple(findings),
        body={"original": original.name, "artifact": artifact.name, "batches": list(BATCHES), "tie": TIE},
    )
