"""What `sortal benchmark` says: a row an artifact and engine, times with their intervals, the contract, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sortal.benchmark.entries import LIVE
from sortal.benchmark.material import Images
from sortal.benchmark.row import BATCHES, WHOLE, Row
from sortal.core.bundle import Bundle
from sortal.core.contract import Contract
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.core.shares import wilson
from sortal.evaluate.latency import PERCENTILE, percentile_bounds
from sortal.runtime.threads import processor

KIND = "benchmark"
CONFIDENCE = 0.95
_LISTED = 1000
_LARGEST = str(BATCHES[-1])


def benchmark_report(
    rows: Sequence[Row], bundle: Bundle, images: Images, contract: Contract | None, *, subject: str, threads: int
) -> Report:
    """The report (kind `benchmark`) of measured rows; accuracy and flips where `images` have labels."""
    original = _original(rows)
    tables = {"artifacts": _artifacts(rows, images, original), "times": _times(rows)}
    if contract is not None and (contract.max_latency_ms is not None or contract.max_size_mb is not None):
        tables["contract"] = _clauses(rows, contract)
    tables |= _asides(rows)
    counts = {state: sum(row.status == state for row in rows) for state in ("ok", "not run", "failed")}
    labelled = images.labelled
    return Report(
        kind=KIND,
        subject=subject,
        data_digest=images.digest,
        metrics=_metrics(rows, images),
        tables=tables,
        findings=(*_failures(rows), *_flip_findings(rows, original), *images.findings),
        provenance={
            "bundle": bundle.id,
            "images": images.source,
            "machine": processor(),
            "threads": threads,
            "timing": "wall time, all rows in turns, one process computing at a time",
        },
        body={
            "summary": sentences(rows, images, original),
            "headline": ["milliseconds", "images_per_s_in_batches", "accuracy"],
            "counts": counts | {"images": 0 if labelled is None else len(labelled.labels)},
            "confidence": CONFIDENCE,
        },
    )


def sentences(rows: Sequence[Row], images: Images, original: Row | None) -> list[str]:
    """The quickest for single images, the quickest for many, the smallest, each held against the original."""
    ran = _comparable(rows)
    if not ran:
        return ["Nothing could be measured here."]
    single = min(ran, key=lambda row: _median(row, "1") or np.inf)
    many = max(ran, key=lambda row: _per_second(row) or 0.0)
    small = min(ran, key=lambda row: row.entry.size_bytes)
    told = [
        f"Quickest for one image: {single.entry.name}, {_median(single, '1') or 0.0:.2f} ms"
        f"{_against(single, original, images)}.",
        f"Most images a second: {many.entry.name}, {_per_second(many) or 0.0:,.0f} in batches of {BATCHES[-1]}"
        f"{'' if many is single else _against(many, original, images)}.",
    ]
    if small is not single and small is not many:
        told.append(f"Smallest: {small.entry.name}, {small.entry.size_bytes / 1e6:.2f} MB.")
    return told


def flips(row: Row, original: Row | None) -> list[int] | None:
    """Rows of images that are decided otherwise than by the original; None where one of both has no answers."""
    if original is None or original.predictions is None or row.predictions is None:
        return None
    one, other = original.predictions, row.predictions
    changed = (one.index != other.index) | (one.abstained != other.abstained)
    return [int(place) for place in np.flatnonzero(changed)]


def _comparable(rows: Sequence[Row]) -> list[Row]:
    """Artifacts that ran and take prepared batches: graphs that resize have that in their times."""
    return [row for row in rows if row.status == "ok" and row.times_ms.get(_LARGEST) and row.entry.artifact != LIVE]


def _original(rows: Sequence[Row]) -> Row | None:
    """The first float32 artifact that ran, the bundle's own ONNX file where that did."""
    ran = [row for row in rows if row.status == "ok" and row.entry.precision == "float32"]
    return ran[0] if ran else None


def _artifacts(rows: Sequence[Row], images: Images, original: Row | None) -> Table:
    columns: tuple[str, ...] = (
        "artifact",
        "engine",
        "device",
        "precision",
        "size_mb",
        "ms",
        "ms_p99",
        "images_per_s",
        "peak_mb",
    )
    columns += ("accuracy", "accuracy_low", "accuracy_high", "flips", "status")
    made: list[tuple[Cell, ...]] = []
    for row in rows:
        entry, changed = row.entry, flips(row, original)
        accuracy = _accuracy(row.predictions, images)
        made.append(
            (
                entry.artifact,
                entry.engine,
                entry.device,
                entry.precision,
                round(entry.size_bytes / 1e6, 3) if entry.size_bytes else None,
                _rounded(_median(row, "1")),
                _rounded(_percentile(row, "1")),
                _rounded(_per_second(row)),
                _rounded(row.peak_mb),
                *((None, None, None) if accuracy is None else _ends(accuracy)),
                None if changed is None else len(changed),
                row.status,
            )
        )
    return Table(columns=columns, rows=tuple(made))


def _times(rows: Sequence[Row]) -> Table:
    """Median and 99th percentile with their bounds; no upper bound where too few calls were measured for one."""
    columns: tuple[str, ...] = (
        "artifact",
        "engine",
        "what",
        "p50_ms",
        "p50_low",
        "p50_high",
        "p99_ms",
        "p99_low",
        "p99_high",
        "n",
    )
    columns += ("load_s",)
    what = {"1": "network, 1 image", _LARGEST: f"network, {_LARGEST} images", WHOLE: "from bytes to decision"}
    made: list[tuple[Cell, ...]] = []
    for row in rows:
        for key, name in what.items():
            times = np.array(row.times_ms.get(key, ()), np.float64)
            if not len(times):
                continue
            middle = percentile_bounds(times, 0.5, 1 - (1 - CONFIDENCE) / 2)
            tail = percentile_bounds(times, PERCENTILE, CONFIDENCE)
            numbers = (float(np.median(times)), *middle, float(np.percentile(times, 100 * PERCENTILE)), *tail)
            cells = [_rounded(number) for number in numbers]
            made.append((row.entry.artifact, row.entry.engine, name, *cells, len(times), _rounded(row.load_s)))
    return Table(columns=columns, rows=tuple(made))


def _clauses(rows: Sequence[Row], contract: Contract) -> Table:
    """Whether each artifact keeps what the contract says of latency and size; undecided where times do not tell."""
    columns = ("artifact", "engine", "clause", "promised", "value", "low", "high", "verdict")
    made: list[tuple[Cell, ...]] = []
    for row in rows:
        if row.entry.artifact == LIVE:
            continue
        who = (row.entry.artifact, row.entry.engine)
        if contract.max_size_mb is not None and row.entry.size_bytes:
            size = row.entry.size_bytes / 1e6
            verdict = "kept" if size <= contract.max_size_mb else "broken"
            made.append((*who, "max_size_mb", contract.max_size_mb, round(size, 3), None, None, verdict))
        times = np.array(row.times_ms.get(WHOLE, ()), np.float64)
        if contract.max_latency_ms is not None and len(times):
            low, high = percentile_bounds(times, PERCENTILE, contract.confidence)
            limit = contract.max_latency_ms
            verdict = "broken" if low > limit else "kept" if high is not None and high <= limit else "undecided"
            value = float(np.percentile(times, 100 * PERCENTILE))
            made.append((*who, "max_latency_ms", limit, _rounded(value), _rounded(low), _rounded(high), verdict))
    return Table(columns=columns, rows=tuple(made))


def _asides(rows: Sequence[Row]) -> dict[str, Table]:
    """Who really computed, where an engine can tell; and why rows have no numbers."""
    told = [
        (row.entry.artifact, row.entry.engine, row.ran_on) for row in rows if row.ran_on not in ("", row.entry.engine)
    ]
    why = [
        (row.entry.artifact, row.entry.engine, row.status, row.entry.why_not or row.failed)
        for row in rows
        if row.status != "ok"
    ]
    found = {}
    if told:
        found["ran_on"] = Table(columns=("artifact", "engine", "ran_on"), rows=tuple(told))
    if why:
        found["not_measured"] = Table(columns=("artifact", "engine", "status", "why"), rows=tuple(why))
    return found


def _metrics(rows: Sequence[Row], images: Images) -> dict[str, Metric]:
    """Of the row that answers single images quickest."""
    ran = _comparable(rows)
    if not ran:
        return {}
    best = min(ran, key=lambda row: _median(row, "1") or np.inf)
    times = np.array(best.times_ms["1"], np.float64)
    low, high = percentile_bounds(times, 0.5, 1 - (1 - CONFIDENCE) / 2)
    found = {"milliseconds": Metric(value=float(np.median(times)), low=low, high=high, n=len(times))}
    if (speed := _per_second(best)) is not None:
        found["images_per_s_in_batches"] = Metric(value=speed)
    if (accuracy := _accuracy(best.predictions, images)) is not None:
        found["accuracy"] = accuracy
    return found


def _failures(rows: Sequence[Row]) -> list[Finding]:
    return [
        Finding(code="failed", severity="warning", message=f"{row.entry.name} failed: {row.failed}.")
        for row in rows
        if row.status == "failed"
    ]


def _flip_findings(rows: Sequence[Row], original: Row | None) -> list[Finding]:
    found = []
    for row in rows:
        changed = flips(row, original)
        if original is None or row.predictions is None or not changed:
            continue
        names = tuple(row.predictions.names[place] for place in changed[:_LISTED])
        message = (
            f"{row.entry.name} decides {len(changed)} of {len(row.predictions)} images otherwise than "
            f"{original.entry.name}."
        )
        severity = "info" if row.entry.precision != "float32" else "warning"
        found.append(Finding.model_validate({"code": "flips", "severity": severity, "message": message, "rows": names}))
    return found


def _against(row: Row, original: Row | None, images: Images) -> str:
    """`, 2.4 times as quick as onnx · onnxruntime, 3 of 122 decisions differ`."""
    mine, theirs = _median(row, "1"), None if original is None else _median(original, "1")
    if original is None or row is original or not mine or not theirs:
        return ""
    changed = flips(row, original)
    flipped = "" if changed is None or images.labelled is None else (
        f"; {len(changed)} of {len(images.labelled.labels):,} decisions differ"
    )  # fmt: skip
    return f", {theirs / mine:.2f} times as quick as {original.entry.name} for one image{flipped}"


def _accuracy(predictions: Predictions | None, images: Images) -> Metric | None:
    if predictions is None or images.labelled is None:
        return None
    right = predictions.index == images.labelled.labels
    low, high = wilson(int(right.sum()), len(right), CONFIDENCE)
    return Metric(value=float(right.mean()), low=float(low), high=float(high), n=len(right))


def _ends(metric: Metric) -> tuple[float | None, float | None, float | None]:
    return metric.value, metric.low, metric.high


def _median(row: Row, key: str) -> float | None:
    times = row.times_ms.get(key)
    return float(np.median(times)) if times else None


def _percentile(row: Row, key: str) -> float | None:
    times = row.times_ms.get(key)
    return float(np.percentile(times, 100 * PERCENTILE)) if times else None


def _per_second(row: Row) -> float | None:
    """Images a second in the largest batch; None for a row that takes single images alone."""
    middle = _median(row, _LARGEST)
    return None if middle is None else 1000 * BATCHES[-1] / middle


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
