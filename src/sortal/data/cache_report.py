"""`sortal cache` as a Report: where the cache is, how full it is, and what became free."""

from __future__ import annotations

from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.data.cache import KINDS, cache_info, clear_cache


def cache_report(*, clear: bool = False) -> Report:
    """What the cache holds, after it was emptied where `clear` says so. Raises MachineError where it cannot be."""
    freed = clear_cache() if clear else None
    info = cache_info()
    rows: list[tuple[Cell, ...]] = [
        (kind, info.items[kind], info.packs[kind], round(info.used_bytes[kind] / 1e6, 1)) for kind in KINDS
    ]
    metrics = {
        "used_mb": Metric(value=round(sum(info.used_bytes.values()) / 1e6, 1)),
        "budget_mb": Metric(value=round(info.budget_bytes / 1e6, 1)),
        "items": Metric(value=float(sum(info.items.values()))),
    }
    findings = []
    if freed is not None:
        metrics["freed_mb"] = Metric(value=round(freed / 1e6, 1))
    if info.folder is None or not info.budget_bytes:
        message = "there is no cache: SORTAL_CACHE_GB is 0, the disk is full, or no cache folder is known"
        hint = "SORTAL_CACHE names its folder, SORTAL_CACHE_GB its size"
        findings.append(Finding(code="no_cache", severity="warning", message=message, hint=hint))
    return Report(
        kind="cache",
        subject="none" if info.folder is None else str(info.folder),
        metrics=metrics,
        tables={"cache": Table(columns=("kind", "items", "packs", "MB"), rows=tuple(rows))},
        findings=tuple(findings),
    )
