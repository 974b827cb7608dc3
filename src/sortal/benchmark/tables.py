"""Tables of a benchmark: the rows, their times with bounds, the contract, and what has no numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sortal.benchmark.entries import LIVE
from sortal.benchmark.material import Images
from sortal.benchmark.numbers import CONFIDENCE, LARGEST, accuracy_of, flips, median_ms, per_second, tail_ms
from sortal.benchmark.row import WHOLE, Row
from sortal.core.contract import Contract
from sortal.core.report import Cell, Metric, Table
from sortal.evaluate.latency import PERCENTILE, percentile_bounds


def artifacts_table(rows: Sequence[Row], images: Images, original: Row | None) -> Table:
    """One line for every artifact on every engine."""
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
        accuracy = accuracy_of(row.predictions, images)
        made.append(
            (
                entry.artifact,
                entry.engine,
                entry.device,
                entry.precision,
                round(entry.size_bytes / 1e6, 3) if entry.size_bytes else None,
                _rounded(median_ms(row, "1")),
                _rounded(tail_ms(row, "1")),
                _rounded(per_second(row)),
                _rounded(row.peak_mb),
                *((None, None, None) if accuracy is None else _ends(accuracy)),
                None if changed is None else len(changed),
                row.status,
            )
        )
    return Table(columns=columns, rows=tuple(made))


def times_table(rows: Sequence[Row]) -> Table:
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
    what = {"1": "network, 1 image", LARGEST: f"network, {LARGEST} images", WHOLE: "from bytes to decision"}
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


def clauses_table(rows: Sequence[Row], contract: Contract) -> Table:
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


def aside_tables(rows: Sequence[Row]) -> dict[str, Table]:
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


def _ends(metric: Metric) -> tuple[float | None, float | None, float | None]:
    return metric.value, metric.low, metric.high


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
