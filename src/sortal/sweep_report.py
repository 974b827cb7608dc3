"""What a sweep came to: settings ranked by a metric, the knee of accuracy and speed, and every run, as a Report."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sortal.core.report import Finding, Metric, Report, Table
from sortal.data.table import ImageTable

CLOSE = 0.005
"""Settings whose metric is within this (or within one standard error) of the best count as equally good: the knee is
the quickest of them."""
AS_QUICK = 1.1
"""Latencies that differ by less than this factor are the same: a machine is never quite still."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finished run. Times are of this machine; latency is from pixels to answer, the least of several, measured
    with all settings in turns."""

    setting: str
    seed: int
    run: str
    accuracy: float
    macro_f1: float
    tail_recall: float | None
    """Mean recall of the classes with the fewest training images."""
    train_accuracy: float
    """On up to 1,000 training images, as they are and not augmented."""
    train_s: float
    latency_1_ms: float
    latency_32_ms: float
    """Of a batch of 32."""
    parameters: int
    macs: int
    size_mb: float


def report_of(table: ImageTable, entries: Sequence[Entry], metric: str, folder: Path) -> Report:
    """Settings ranked by the mean of `metric`, the best one and the knee, and every run."""
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.setting, []).append(entry)
    ranked = sorted(grouped.items(), key=lambda item: -_mean(item[1], metric))
    knee = knee_of(grouped, metric)
    rows = tuple(_row(setting, runs, metric, knee) for setting, runs in ranked)
    best = ranked[0][0]
    message = f"Best {metric}: {best}. The quickest that is as good (within {CLOSE:.1%} or one standard error): {knee}."
    return Report(
        kind="sweep",
        subject=table.source,
        metrics={
            f"best_{metric}": Metric(value=_mean(grouped[best], metric), n=len(grouped[best])),
            "settings": Metric(value=float(len(grouped))),
        },
        tables={"settings": Table(columns=_COLUMNS, rows=rows), "runs": _runs_table(entries)},
        findings=(Finding(code="sweep_result", severity="info", message=message),),
        provenance={
            "metric": metric,
            "judged_on": "validation images",
            "hardware": f"{platform.machine()}, {platform.system()}",
            "engine": "onnxruntime, float32",
            "knee": knee,
            "folder": str(folder),
        },
    )


_COLUMNS = (
    "setting",
    "seeds",
    "accuracy",
    "spread",
    "macro F1",
    "tail recall",
    "train - validation gap",
    "train s",
    "latency b1 ms",
    "images/s b32",
    "parameters",
    "MACs",
    "size MB",
    "knee",
)


def _row(setting: str, runs: list[Entry], metric: str, knee: str) -> tuple[Any, ...]:
    values = [getattr(run, metric) for run in runs]
    return (
        setting,
        len(runs),
        round(_mean(runs, "accuracy"), 4),
        round(max(values) - min(values), 4),
        round(_mean(runs, "macro_f1"), 4),
        None if any(run.tail_recall is None for run in runs) else round(_mean(runs, "tail_recall"), 4),
        round(_mean(runs, "train_accuracy") - _mean(runs, "accuracy"), 4),
        round(_mean(runs, "train_s"), 1),
        round(_mean(runs, "latency_1_ms"), 2),
        round(32000 / max(_mean(runs, "latency_32_ms"), 1e-9), 1),
        runs[0].parameters,
        runs[0].macs,
        runs[0].size_mb,
        "<-" if setting == knee else "",
    )


def _runs_table(entries: Sequence[Entry]) -> Table:
    columns = tuple(asdict(entries[0]))
    return Table(columns=columns, rows=tuple(tuple(asdict(entry).values()) for entry in entries))


def knee_of(grouped: Mapping[str, list[Entry]], metric: str) -> str:
    """The quickest setting that is as good as the best; of equally quick ones the best."""
    best = max(grouped.values(), key=lambda runs: _mean(runs, metric))
    values = [getattr(run, metric) for run in best]
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
    least = _mean(best, metric) - max(CLOSE, error)
    good = [setting for setting, runs in grouped.items() if _mean(runs, metric) >= least]
    quickest_ms = min(_mean(grouped[setting], "latency_1_ms") for setting in good)
    quick = [setting for setting in good if _mean(grouped[setting], "latency_1_ms") <= AS_QUICK * quickest_ms]
    return max(quick, key=lambda setting: _mean(grouped[setting], metric))


def _mean(runs: Sequence[Entry], field: str) -> float:
    return float(np.mean([getattr(run, field) for run in runs]))
