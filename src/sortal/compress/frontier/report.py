"""What the frontier says: every candidate with its price, which are worth theirs, which one was taken and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sortal.compress.frontier.explore import Explored
from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.measured import LATENCY, SIZE, Measured
from sortal.compress.frontier.pick import pareto, pick
from sortal.compress.pricing import Budget
from sortal.core.contract import Contract
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.evaluate.latency import processor

KIND = "frontier"
CANDIDATES = "candidates"
DEVICE = "cpu, 1 thread"
"""What times are of; the processor's name stands in the provenance."""
_COLUMNS = (
    "candidate", "engine", "device", "size_mb", "size_ratio", "accuracy", "accuracy_low", "accuracy_high",
    "drop_points", "drop_points_low", "drop_points_high", "standard_error_points", "macro_drop_points", "flips",
    "cpu_ms", "time_ratio", "time_ratio_low", "time_ratio_high", "p99_ms", "worth_it", "verdict",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Everything there is to tell."""

    ground: Ground
    explored: Explored
    measured: tuple[Measured, ...]
    budget: Budget

    @property
    def taken(self) -> Measured | None:
        """The candidate to take; None where none keeps what is asked."""
        found = pick([one.point for one in self.measured])
        return None if found is None else self.measured[found.place]

    @property
    def images(self) -> int:
        """Validation images that judged."""
        return len(self.ground.truth.labels)


def frontier_report(found: Frontier, subject: str) -> Report:
    """The report; its body's `verdict` is `shipped` where a candidate was taken, else `refused`."""
    taken = found.taken
    tables = {CANDIDATES: _candidates(found)}
    target = _target(found)
    if target.rows:
        tables["target"] = target
    if taken is not None:
        tables["classes"] = _classes(found, taken)
    return Report(
        kind=KIND,
        subject=subject,
        data_digest=found.ground.table.content_digest,
        metrics={} if taken is None else _metrics(found, taken),
        tables=tables,
        findings=tuple(_findings(found)),
        provenance={
            "bundle": found.ground.bundle.id,
            "images": found.ground.table.source,
            "machine": processor(),
            "timing": "CPU time of one image on one thread, all networks in turns",
        },
        body={
            "verdict": "refused" if taken is None else "shipped",
            "shipped": [] if taken is None else ["bundle"],
            "taken": None if taken is None else taken.candidate.wish.name,
            "max_drop": found.budget.max_drop,
            "summary": sentences(found),
            "headline": ["accuracy", "accuracy_drop_points", "macro_drop_points", "size_ratio", "time_ratio", "flips"],
            "counts": {"images": found.images, "classes": len(found.ground.bundle.labels)},
        },
    )


def sentences(found: Frontier) -> list[str]:
    """What came out, for people."""
    taken, many = found.taken, len(found.measured) - 1
    if not found.measured:
        return ["Nothing could be tried."]
    own = found.measured[0]
    if taken is None:
        return [f"None of {many} candidates keeps what is asked; the network stays as it is."]
    drop, size = taken.price.accuracy_drop, taken.size_bytes / own.size_bytes
    ends = "" if drop.low is None or drop.high is None else f" ({drop.low:.1f} to {drop.high:.1f})"
    verb = "gains" if (drop.value or 0.0) < 0 else "loses"
    what = (
        f"Taken: {taken.candidate.wish.name}: {taken.size_bytes / 1e6:.2f} MB ({size:.2f} of the size), "
        f"{taken.ms:.2f} ms ({taken.ratio.value:.2f} of the time) on {taken.engine}; it {verb} "
        f"{abs(drop.value or 0.0):.2f} points{ends} on {found.images:,} validation images."
    )
    return [what, _why(found, taken)]


def _why(found: Frontier, taken: Measured) -> str:
    """What it is the smallest of."""
    others = found.measured[1:]
    good = sum(not one.objection and (one.steady or not taken.steady) for one in others)
    asked = f"the budget of {found.budget.max_drop:g} points" + (" and the contract" if found.budget.contract else "")
    rank = "the only one" if good == 1 else f"the smallest of {good}"
    said = f"Of {len(others)} candidates it is {rank} that {'keeps' if good == 1 else 'keep'} {asked}"
    if taken.steady:
        return f"{said} with one standard error of the drop ({taken.error:.2f} points) to spare."
    return f"{said} as measured; with one standard error of the drop ({taken.error:.2f} points) added, none does."


def _metrics(found: Frontier, taken: Measured) -> dict[str, Metric]:
    return {
        "accuracy": taken.price.accuracy,
        "accuracy_drop_points": taken.price.accuracy_drop,
        "macro_drop_points": taken.price.macro_drop,
        "size_ratio": Metric(value=taken.size_bytes / found.measured[0].size_bytes),
        "time_ratio": taken.ratio,
        "flips": Metric(value=float(len(taken.price.flips)), n=found.images),
    }


def _candidates(found: Frontier) -> Table:
    """What was made, by size; then what could not be made, and what was not tried."""
    worth = pareto([one.point for one in found.measured])
    rows = [
        _row(found, one, worth=good)
        for one, good in sorted(
            zip(found.measured, worth, strict=True),
            key=lambda pair: (not pair[0].original, -pair[0].size_bytes, -pair[0].ms),
        )
    ]
    empty = (None,) * (len(_COLUMNS) - 2)
    rows += [(one.wish.name, *empty, one.record.refused) for one in found.explored.candidates if not one.made]
    rows += [(wish.name, *empty, f"not tried: {why}") for wish, why in found.explored.skipped]
    return Table(columns=_COLUMNS, rows=tuple(rows))


def _row(found: Frontier, one: Measured, *, worth: bool) -> tuple[Cell, ...]:
    cost, taken = one.price, found.taken
    verdict = "the original" if one.original else "taken" if one is taken else one.objection or "fits"
    return (
        one.candidate.wish.name,
        one.engine,
        DEVICE,
        one.size_bytes / 1e6,
        one.size_bytes / found.measured[0].size_bytes,
        *_ends(cost.accuracy),
        *((0.0, None, None) if one.original else _ends(cost.accuracy_drop)),
        one.error,
        cost.macro_drop.value,
        len(cost.flips),
        one.ms,
        *((1.0, None, None) if one.original else _ends(one.ratio)),
        None if one.latency is None else one.latency.p99_ms,
        "yes" if worth else "",
        verdict,
    )


def _target(found: Frontier) -> Table:
    """Whether the target has room: its limits of size and latency, the network as it is, and what was taken."""
    columns = ("limit", "promised", "network", "measured", "verdict")
    contract, taken = found.budget.contract, found.taken
    if contract is None or not found.measured:
        return Table(columns=columns, rows=())
    shown = [found.measured[0], *([] if taken is None else [taken])]
    rows = list[tuple[Cell, ...]]()
    for one in shown:
        name = one.candidate.wish.name
        for limit, promised, measured in _limits(contract, one):
            verdict = "not measured" if measured is None else "kept" if measured <= promised else "missed"
            rows.append((limit, promised, name, measured, verdict))
    return Table(columns=columns, rows=tuple(rows))


def _limits(contract: Contract, one: Measured) -> list[tuple[str, float, float | None]]:
    """(clause, promised, measured) of what the contract says about the target."""
    found = list[tuple[str, float, float | None]]()
    if contract.max_size_mb is not None:
        found.append((SIZE, contract.max_size_mb, one.artifact_bytes / 1e6))
    if contract.max_latency_ms is not None:
        found.append((LATENCY, contract.max_latency_ms, None if one.latency is None else one.latency.p99_ms))
    return found


def _classes(found: Frontier, taken: Measured) -> Table:
    """The price by class, the dearest first."""
    labels = found.ground.bundle.labels
    counts = np.bincount(found.ground.truth.labels, minlength=len(labels))
    rows: list[tuple[Cell, ...]] = [
        (labels.names[place], int(counts[place]), float(before), float(after), 100 * float(before - after))
        for place, (before, after) in enumerate(zip(*taken.price.recalls, strict=True))
        if not np.isnan(before)
    ]
    rows.sort(key=lambda row: (-float(str(row[4])), str(row[0])))
    return Table(columns=("class", "images", "original_recall", "taken_recall", "drop_points"), rows=tuple(rows))


def _findings(found: Frontier) -> list[Finding]:
    taken, explored, notes = found.taken, found.explored, list(found.ground.notes)
    told = list[Finding]()
    if taken is None:
        hint = "allow more: compress.max_drop=1; or give it more time, and the same command goes on: compress.time=1h"
        message = "No candidate keeps the budget and the contract."
        told.append(Finding(code="none_fits", severity="error", message=message, hint=hint))
    elif len(found.measured) > 2:
        told.append(_flattered(found, taken))
    if explored.interrupted:
        hint = "the same command goes on from here"
        told.append(Finding(code="interrupted", severity="warning", message="Not everything was tried.", hint=hint))
    late = [wish.name for wish, why in explored.skipped if "would take" in why]
    if late:
        message = f"Not tried, because they would not have been ready in time: {len(late)}."
        hint = "the same command with more time goes on from here: compress.time=1h"
        told.append(Finding(code="not_tried", severity="warning", message=message, hint=hint, rows=tuple(late)))
    if found.ground.remade:
        told.append(_refitted())
    return [*told, *notes]


def _flattered(found: Frontier, taken: Measured) -> Finding:
    high = taken.price.accuracy_drop.high or 0.0
    message = (
        f"Chosen among {len(found.measured)} networks by the same {found.images:,} images, which flatters it; these "
        f"images cannot rule out a drop of up to {high:.1f} points."
    )
    hint = "settle it on images that neither has seen: sortal compare RUN CHOSEN HOLDOUT"
    return Finding(code="chosen_among_many", severity="info", message=message, hint=hint)


def _refitted() -> Finding:
    message = (
        "The network as it is was fitted anew on the training images alone, and so was every candidate's head: the "
        "validation images judge here, and the run's own head had learned from them, or had another contract."
    )
    return Finding(code="judged_alike", severity="info", message=message)


def _ends(metric: Metric) -> tuple[float | None, float | None, float | None]:
    return metric.value, metric.low, metric.high
