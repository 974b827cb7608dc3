"""What a compression with cut channels says: every step in one table, the price by class, what layers can spare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sortal.compress.judge import Price
from sortal.compress.prune.chain import Chain, Link
from sortal.compress.report import KIND, candidates_table
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.evaluate.latency import processor

_COLUMNS: tuple[str, ...] = (
    "candidate",
    "method",
    "engine",
    "parameters",
    "macs_m",
    "size_mb",
    "size_ratio",
    "accuracy",
    "accuracy_low",
)
_COLUMNS += ("accuracy_high", "accuracy_untrained", "drop_points", "drop_points_low", "drop_points_high")
_COLUMNS += ("macro_drop_points", "flips", "cpu_ms", "time_ratio", "time_ratio_low", "time_ratio_high", "verdict")

_WORDS = {"macs": "multiplications", "parameters": "weights"}


def chain_report(chain: Chain, subject: str) -> Report:
    """The report; its body's `verdict` is `shipped` or `refused`."""
    last, n = chain.last, len(chain.material.judged.labels)
    shipped = _shipped(chain)
    tables = {"candidates": _steps(chain), "classes": _classes(chain, last.price), "sensitivity": _sensitivity(chain)}
    if chain.int8 is not None:
        tables["int8_candidates"] = candidates_table(chain.int8)
    return Report(
        kind=KIND,
        subject=subject,
        data_digest=chain.material.digest,
        metrics=_metrics(chain, n),
        tables=tables,
        findings=(*_findings(chain), *chain.material.findings),
        provenance={
            "bundle": chain.pruned.original.bundle.id,
            "images": chain.material.source,
            "machine": processor(),
            "timing": "CPU time of one image on one thread, all networks in turns",
        },
        body={
            "verdict": "shipped" if shipped else "refused",
            "shipped": shipped,
            "max_drop": chain.budget.max_drop,
            "summary": sentences(chain),
            "headline": [
                "accuracy",
                "accuracy_drop_points",
                "macro_drop_points",
                "size_ratio",
                "macs_ratio",
                "time_ratio",
            ],
            "counts": {"images": n, "classes": len(chain.pruned.original.bundle.labels)},
        },
    )


def sentences(chain: Chain) -> list[str]:
    """What came out, for people."""
    original, last, found = chain.links[0], chain.last, chain.pruned
    if chain.bundle is None:
        return [
            f"Nothing was shipped: the smallest cut ({found.stages[1].share:.0%} of the {_WORDS[found.measure]}) "
            f"{found.stages[1].objection}.",
            "The bundle is as it was.",
        ]
    stage = found.stage
    whole = "" if found.taken == len(found.stages) - 1 else ", the largest cut that kept the budget"
    said = [
        f"{stage.share:.0%} of the {_WORDS[found.measure]} cut{whole}: {stage.parameters:,} of "
        f"{original.parameters or 0:,} parameters, "
        f"{stage.macs / 1e6:,.1f} of {(original.macs or 0) / 1e6:,.1f} million multiplications.",
        f"{last.name}: {_points(last.price.accuracy_drop)} of accuracy and {_points(last.price.macro_drop)} of "
        f"macro accuracy on {last.price.accuracy.n:,} validation images; "
        f"{last.size_bytes / original.size_bytes:.2f} of the size, {last.ratio.value:.2f} of the time.",
    ]
    if chain.int8 is not None and not chain.int8.attached:
        best = chain.int8.best
        said.append(f"No int8: {'nothing could be tried' if best is None else best.verdict}.")
    return said


def _shipped(chain: Chain) -> list[str]:
    if chain.bundle is None:
        return []
    return ["bundle", *([] if chain.int8 is None else chain.int8.attached)]


def _steps(chain: Chain) -> Table:
    first = chain.links[0]
    return Table(columns=_COLUMNS, rows=tuple(_row(link, first) for link in chain.links))


def _row(link: Link, first: Link) -> tuple[Cell, ...]:
    cost = link.price
    return (
        link.name,
        link.method,
        link.engine,
        link.parameters,
        None if link.macs is None else link.macs / 1e6,
        link.size_bytes / 1e6,
        link.size_bytes / first.size_bytes,
        *_ends(cost.accuracy),
        link.before,
        *_ends(cost.accuracy_drop),
        cost.macro_drop.value,
        len(cost.flips),
        link.ms,
        *_ends(link.ratio),
        link.verdict,
    )


def _sensitivity(chain: Chain) -> Table:
    seen = chain.sensitivity
    columns = ("layer", *(f"{share:.0%}_cut_accuracy" for share in seen.shares))
    rows: list[tuple[Cell, ...]] = [("none", *(seen.whole for _ in seen.shares))]
    rows += [(name, *values) for name, values in seen.accuracy.items()]
    return Table(columns=columns, rows=tuple(rows))


def _classes(chain: Chain, cost: Price) -> Table:
    """The price by class, the dearest first."""
    names, counts = chain.pruned.original.bundle.labels.names, np.bincount(chain.material.judged.labels)
    rows: list[tuple[str, int, float, float, float]] = [
        (names[place], int(counts[place]), float(before), float(after), 100 * float(before - after))
        for place, (before, after) in enumerate(zip(*cost.recalls, strict=True))
        if not np.isnan(before)
    ]
    rows.sort(key=lambda row: (-row[4], row[0]))
    return Table(columns=("class", "images", "original_recall", "cut_recall", "drop_points"), rows=tuple(rows))


def _metrics(chain: Chain, n: int) -> dict[str, Metric]:
    first, last = chain.links[0], chain.last
    macs = chain.pruned.stage.macs / max(first.macs or 1, 1)
    return {
        "accuracy": last.price.accuracy,
        "accuracy_drop_points": last.price.accuracy_drop,
        "macro_drop_points": last.price.macro_drop,
        "size_ratio": Metric(value=last.size_bytes / first.size_bytes),
        "macs_ratio": Metric(value=macs),
        "time_ratio": last.ratio,
        "flips": Metric(value=float(len(last.price.flips)), n=n),
    }


def _findings(chain: Chain) -> list[Finding]:
    found, pruned = list[Finding](), chain.pruned
    last = pruned.stages[-1]
    if last.objection:
        held = f"the largest cut that held is {pruned.stage.share:.0%}" if pruned.taken else "no cut held"
        message = f"Cutting {last.share:.0%} of the {_WORDS[pruned.measure]} {last.objection}; {held}."
        hint = (
            "more training (compress.prune_epochs), a better teacher (compress.teacher), or a larger compress.max_drop"
        )
        severity = "warning" if pruned.taken else "error"
        found.append(Finding(code="cut_over_budget", severity=severity, message=message, hint=hint))
    if chain.int8 is not None and not chain.int8.attached:
        best = chain.int8.best
        message = f"No int8 of the pruned network: {'nothing could be tried' if best is None else best.verdict}."
        found.append(Finding(code="not_shipped", severity="warning", message=message))
    high = chain.last.price.accuracy_drop.high or 0.0
    if chain.bundle is not None and high > chain.budget.max_drop:
        message = (
            f"{len(chain.material.judged.labels):,} images cannot rule out a drop of accuracy of up to {high:.1f} "
            f"points; the budget of {chain.budget.max_drop:g} holds for what was measured."
        )
        found.append(Finding(code="few_images", severity="info", message=message))
    if chain.sensitivity.left_out:
        message = f"{chain.sensitivity.left_out} smaller sets of channels are not in the table of sensitivity."
        found.append(Finding(code="sensitivity_of_largest", severity="info", message=message))
    notes = dict.fromkeys(note for stage in pruned.stages for note in stage.notes)
    found += [Finding(code="training_after_cut", severity="warning", message=note) for note in notes]
    return found


def _ends(metric: Metric) -> Sequence[float | None]:
    return metric.value, metric.low, metric.high


def _points(drop: Metric) -> str:
    """`loses 0.30 points (-0.2 to 0.9)`."""
    value = drop.value or 0.0
    ends = "" if drop.low is None or drop.high is None else f" ({drop.low:.1f} to {drop.high:.1f})"
    return f"{'gains' if value < 0 else 'loses'} {abs(value):.2f} points{ends}"
