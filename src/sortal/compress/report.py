"""What `sortal compress` says: what was tried and refused, what int8 costs by class, how fast and how large it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sortal.compress.images import Material
from sortal.compress.judge import Price
from sortal.compress.pricing import Budget
from sortal.compress.search import Found
from sortal.compress.verdict import Judged
from sortal.core.bundle import Bundle
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.core.shares import wilson
from sortal.evaluate.latency import processor

KIND = "compression"
_LISTED = 1_000
_LAYERS = 20
_UNMOVED: tuple[Cell, ...] = (0.0, None, None, 0.0, 0, 0.0, 0.0)
"""What float32 loses and moves against itself."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything there is to tell."""

    bundle: Bundle
    material: Material
    original: Predictions
    original_bytes: int
    original_ms: dict[str, float]
    """Median CPU milliseconds of float32, by engine."""
    found: Found
    judged: tuple[Judged, ...]
    budget: Budget
    attached: Mapping[str, Path] = field(default_factory=dict)
    """Artifact name -> folder, once it was written."""

    @property
    def shipped(self) -> tuple[str, ...]:
        """Names of the artifacts that passed."""
        return tuple(one.candidate.artifact for one in self.judged if one.verdict == "shipped")

    @property
    def best(self) -> Judged | None:
        """The one that was shipped, the fastest where two were; else the one that came closest."""
        shipped = [one for one in self.judged if one.verdict == "shipped"]
        chosen = shipped or [one for one in self.judged if one.candidate is self.found.chosen] or list(self.judged)
        return min(chosen, key=lambda one: one.ms) if shipped else chosen[0] if chosen else None


def compression_report(outcome: Outcome, subject: str) -> Report:
    """The report of a compression; its body's `verdict` is `shipped` or `refused`."""
    best = outcome.best
    tables = {"candidates": candidates_table(outcome)}
    if best is not None:
        tables["classes"] = _classes(outcome, best.price)
        if len(best.price.flips):
            tables["flips"] = _flips(outcome, best)
    tables |= _layers(outcome)
    if outcome.found.sensitivity:
        rows = outcome.found.sensitivity[:_LAYERS]
        tables["sensitive_layers"] = Table(columns=("layer", "moved"), rows=tuple(rows))
    return Report(
        kind=KIND,
        subject=subject,
        data_digest=outcome.material.digest,
        metrics={} if best is None else _metrics(outcome, best),
        tables=tables,
        findings=(*_findings(outcome), *outcome.material.findings),
        provenance={
            "bundle": outcome.bundle.id,
            "images": outcome.material.source,
            "machine": processor(),
            "timing": "CPU time of one image on one thread, all networks in turns",
        },
        body={
            "verdict": "shipped" if outcome.shipped else "refused",
            "shipped": list(outcome.shipped),
            "method": None if best is None else best.candidate.method,
            "ranges": None if best is None else best.candidate.name,
            "floating": [] if best is None else list(best.candidate.floating),
            "max_drop": outcome.budget.max_drop,
            "summary": sentences(outcome),
            "headline": ["accuracy", "accuracy_drop_points", "macro_drop_points", "size_ratio", "time_ratio", "flips"],
            "counts": {"images": len(outcome.material.judged.labels), "classes": len(outcome.bundle.labels)},
        },
    )


def candidates_table(outcome: Outcome) -> Table:
    """float32 on every engine, then every candidate: size, accuracy with its interval, time, verdict."""
    columns: tuple[str, ...] = (
        "candidate",
        "method",
        "engine",
        "size_mb",
        "size_ratio",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
    )
    columns += ("drop_points", "drop_points_low", "drop_points_high", "macro_drop_points", "flips")
    columns += ("expected_flips", "moved")
    columns += ("cpu_ms", "time_ratio", "time_ratio_low", "time_ratio_high", "verdict")
    right = outcome.original.index == outcome.material.judged.labels
    ends = wilson(int(right.sum()), len(right), 0.95)
    accuracy = (float(right.mean()), float(ends[0]), float(ends[1]))
    mb = outcome.original_bytes / 1e6
    rows: list[tuple[Cell, ...]] = [
        (*("float32", "FP32", engine, mb, 1.0, *accuracy), *_UNMOVED, ms, 1.0, None, None, "the original")
        for engine, ms in outcome.original_ms.items()
    ]
    for one in outcome.judged:
        cost, bytes_ = one.price, one.candidate.size_bytes
        rows.append(
            (
                one.candidate.name,
                one.candidate.method,
                one.engine,
                bytes_ / 1e6,
                bytes_ / outcome.original_bytes,
                *_ends(cost.accuracy),
                *_ends(cost.accuracy_drop),
                cost.macro_drop.value,
                len(cost.flips),
                len(right) * cost.expected_flips,
                cost.moved,
                one.ms,
                *_ends(one.ratio),
                one.verdict,
            )
        )
    return Table(columns=columns, rows=tuple(rows))


def sentences(outcome: Outcome) -> list[str]:
    """What came out, for people."""
    best = outcome.best
    if best is None:
        return ["Nothing could be tried."]
    shipped = [one for one in outcome.judged if one.verdict == "shipped"]
    begun = f"Shipped as {', '.join(outcome.shipped)}." if shipped else f"Nothing was shipped: {best.verdict}."
    told = [sentence for one in shipped or [best] for sentence in _costs(outcome, one)]
    return [begun, *told, *_gained(outcome)]


def _costs(outcome: Outcome, one: Judged) -> list[str]:
    """What one candidate costs and saves, and how many decisions it changes."""
    cost, kept = one.price, one.candidate.floating
    size, ratio = one.candidate.size_bytes / outcome.original_bytes, one.ratio.value or 1.0
    told = f"{len(outcome.material.judged.labels):,} validation images"
    drop = f"accuracy {_points(cost.accuracy_drop)} and macro accuracy {_points(cost.macro_drop)} on {told}"
    floating = f", {len(kept)} layers in float32" if kept and "float" not in one.candidate.name else ""
    what = f"int8 ({one.candidate.name}{floating}) on {one.engine}"
    return [
        f"{what}: {drop}; {size:.2f} of the size, {ratio:.2f} of the time.",
        f"{len(cost.flips)} of {told} are decided otherwise, with the thresholds as they stand; by how far all answers "
        f"move, {cost.expected_flips:.1%} of answers change.",
    ]


def _gained(outcome: Outcome) -> list[str]:
    """What training with rounding was worth, where there was any."""
    told = []
    for one in outcome.judged:
        if one.candidate.method == "QAT":
            before, after = (_change(price.drop) for price in (outcome.found.best.price, one.price))
            told.append(f"Training with rounding {after} on {one.engine}; int8 without it {before} on ONNX Runtime.")
    return told


def _metrics(outcome: Outcome, best: Judged) -> dict[str, Metric]:
    n = len(outcome.material.judged.labels)
    return {
        "accuracy": best.price.accuracy,
        "accuracy_drop_points": best.price.accuracy_drop,
        "macro_drop_points": best.price.macro_drop,
        "size_ratio": Metric(value=best.candidate.size_bytes / outcome.original_bytes),
        "time_ratio": best.ratio,
        "flips": Metric(value=float(len(best.price.flips)), n=n),
    }


def _findings(outcome: Outcome) -> list[Finding]:
    best, found = outcome.best, list[Finding]()
    if best is None:
        return found
    if not outcome.shipped:
        hint = "the bundle is as it was; allow more: compress.max_drop=1, or give more calibration images"
        found.append(Finding(code="not_shipped", severity="error", message=f"No int8: {best.verdict}.", hint=hint))
    found += [finding for one in outcome.judged if one.verdict == "shipped" for finding in _unsettled(outcome, one)]
    if len(best.price.flips):
        rows = tuple(outcome.material.judged.names[row] for row in best.price.flips[:_LISTED].tolist())
        message = f"{len(rows)} images are decided otherwise than by float32."
        found.append(Finding(code="flips", severity="warning", message=message, rows=rows))
    return found


def _unsettled(outcome: Outcome, one: Judged) -> list[Finding]:
    """What is to be said where the validation images are too few to show that the budget holds; a warning where
    more answers change than it has points."""
    high, budget = one.price.accuracy_drop.high or 0.0, outcome.budget.max_drop
    if high <= budget:
        return []
    message = (
        f"{one.candidate.artifact}: {len(outcome.material.judged.labels):,} validation images can show that at most "
        f"{high:.1f} points are lost, not {budget:g}; the budget holds for what was measured. By how far answers move, "
        f"{one.price.expected_flips:.1%} of them change on images like these, and hardly more than that can be lost."
    )
    doubtful = 100 * one.price.expected_flips > budget
    hint = "settle it on images that neither has seen: sortal compare RUN ARTIFACT holdout/"
    severity = "warning" if doubtful else "info"
    return [Finding.model_validate({"code": "few_images", "severity": severity, "message": message, "hint": hint})]


def _classes(outcome: Outcome, cost: Price) -> Table:
    """The price by class, the dearest first."""
    names, counts = outcome.bundle.labels.names, np.bincount(outcome.material.judged.labels)
    rows: list[tuple[Cell, ...]] = [
        (names[place], int(counts[place]), float(before), float(after), 100 * float(before - after))
        for place, (before, after) in enumerate(zip(*cost.recalls, strict=True))
        if not np.isnan(before)
    ]
    rows.sort(key=lambda row: (-float(str(row[4])), str(row[0])))
    return Table(columns=("class", "images", "float32_recall", "int8_recall", "drop_points"), rows=tuple(rows))


def _layers(outcome: Outcome) -> dict[str, Table]:
    """Which layers compute in integers and which do not, of what was shipped (else of what came closest) and of dynamic
    quantization."""
    shown = [one for one in outcome.judged if one.verdict == "shipped" or one.candidate.method == "PTQ dynamic"]
    if not shown and outcome.best is not None:
        shown = [outcome.best]
    rows: list[tuple[Cell, ...]] = [
        (one.candidate.name, one.engine, name, "int8" if rounded else "float32")
        for one in {one.candidate.name: one for one in shown}.values()
        for name, rounded in one.candidate.layers.items()
    ]
    columns = ("candidate", "engine", "layer", "precision")
    return {"layers": Table(columns=columns, rows=tuple(rows))} if rows else {}


def _flips(outcome: Outcome, best: Judged) -> Table:
    """What float32 said about each image that is decided otherwise, and how sure it was."""
    names, original = outcome.bundle.labels.names, outcome.original
    margins = original.margin
    rows: list[tuple[Cell, ...]] = [
        (
            original.names[row],
            names[outcome.material.judged.labels[row]],
            names[original.index[row]] + (" (to a person)" if original.abstained[row] else ""),
            float(margins[row]),
        )
        for row in best.price.flips[:_LISTED].tolist()
    ]
    return Table(columns=("image", "true", "float32", "margin"), rows=tuple(rows))


def _ends(metric: Metric) -> Sequence[float | None]:
    return metric.value, metric.low, metric.high


def _points(drop: Metric) -> str:
    """`loses 0.3 points (-0.2 to 0.9)`."""
    ends = "" if drop.low is None or drop.high is None else f" ({drop.low:.1f} to {drop.high:.1f})"
    return f"{_change(drop.value or 0.0)}{ends}"


def _change(drop: float) -> str:
    return f"{'gains' if drop < 0 else 'loses'} {abs(drop):.2f} points"
