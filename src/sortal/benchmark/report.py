"""What `sortal benchmark` says: a row an artifact and engine, times with their intervals, the contract, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sortal.benchmark.material import Images
from sortal.benchmark.numbers import CONFIDENCE, accuracy_of, comparable, flips, median_ms, original_of, per_second
from sortal.benchmark.row import BATCHES, Row
from sortal.benchmark.tables import artifacts_table, aside_tables, clauses_table, times_table
from sortal.core.bundle import Bundle
from sortal.core.contract import Contract
from sortal.core.report import Finding, Metric, Report
from sortal.evaluate.latency import percentile_bounds
from sortal.runtime.threads import processor

KIND = "benchmark"
_LISTED = 1000


def benchmark_report(
    rows: Sequence[Row], bundle: Bundle, images: Images, contract: Contract | None, *, subject: str, threads: int
) -> Report:
    """The report (kind `benchmark`) of measured rows; accuracy and flips where `images` have labels."""
    original = original_of(rows)
    tables = {"artifacts": artifacts_table(rows, images, original), "times": times_table(rows)}
    if contract is not None and (contract.max_latency_ms is not None or contract.max_size_mb is not None):
        tables["contract"] = clauses_table(rows, contract)
    tables |= aside_tables(rows)
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
    ran = comparable(rows)
    if not ran:
        return ["Nothing could be measured here."]
    single = min(ran, key=lambda row: median_ms(row, "1") or np.inf)
    many = max(ran, key=lambda row: per_second(row) or 0.0)
    small = min(ran, key=lambda row: row.entry.size_bytes)
    told = [
        f"Quickest for one image: {single.entry.name}, {median_ms(single, '1') or 0.0:.2f} ms"
        f"{_against(single, original, images)}.",
        f"Most images a second: {many.entry.name}, {per_second(many) or 0.0:,.0f} in batches of {BATCHES[-1]}"
        f"{'' if many is single else _against(many, original, images)}.",
    ]
    if small is not single and small is not many:
        told.append(f"Smallest: {small.entry.name}, {small.entry.size_bytes / 1e6:.2f} MB.")
    return told


def _metrics(rows: Sequence[Row], images: Images) -> dict[str, Metric]:
    """Of the row that answers single images quickest."""
    ran = comparable(rows)
    if not ran:
        return {}
    best = min(ran, key=lambda row: median_ms(row, "1") or np.inf)
    times = np.array(best.times_ms["1"], np.float64)
    low, high = percentile_bounds(times, 0.5, 1 - (1 - CONFIDENCE) / 2)
    found = {"milliseconds": Metric(value=float(np.median(times)), low=low, high=high, n=len(times))}
    if (speed := per_second(best)) is not None:
        found["images_per_s_in_batches"] = Metric(value=speed)
    if (accuracy := accuracy_of(best.predictions, images)) is not None:
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
    mine, theirs = median_ms(row, "1"), None if original is None else median_ms(original, "1")
    if original is None or row is original or not mine or not theirs:
        return ""
    changed = flips(row, original)
    flipped = "" if changed is None or images.labelled is None else (
        f"; {len(changed)} of {len(images.labelled.labels):,} decisions differ"
    )  # fmt: skip
    return f", {theirs / mine:.2f} times as quick as {original.entry.name} for one image{flipped}"
