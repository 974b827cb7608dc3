"""The verdict of an evaluation in plain sentences, for the first lines of a page and of a terminal."""

from __future__ import annotations

from sortal.core.report import Finding, Metric, Report
from sortal.data.statistics import UNEVEN_RATIO

FLATTERING = ("seen_in_training", "no_test_split")
"""Findings after which a number promises nothing about other images."""


def evaluation_summary(report: Report) -> list[str]:
    """Four to nine sentences, most important first."""
    sentences = (
        _unequal(report),
        _accuracy(report),
        _references(report),
        _worst(report),
        _pair(report),
        _rest(report),
        str(report.body.get("headline_reason") or ""),
    )
    return [*(found.message for found in flattering(report)), *(sentence for sentence in sentences if sentence)]


def flattering(report: Report) -> list[Finding]:
    """Findings that take the promise out of the numbers, such as images that the classifier was trained on."""
    return [found for found in report.findings if found.code in FLATTERING]


def percent(value: float) -> str:
    """A share for people: 97.4%; more digits near the ends so that 99.96% is not called 100, nor 0.02% nothing."""
    texts = [f"{100 * value:.{digits}f}" for digits in (1, 2, 3, 4)]
    whole = value in (0.0, 1.0)
    return next((text for text in texts if whole or float(text) not in (0.0, 100.0)), texts[-1]) + "%"


def interval(metric: Metric) -> str:
    """Low to high for people, empty where there is no interval."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{percent(metric.low)} to {percent(metric.high)}"


def _unequal(report: Report) -> str:
    """Where accuracy hides rare classes, the averages over classes come first, with the reason."""
    ratio = report.body.get("imbalance_ratio") or 1.0
    if ratio < UNEVEN_RATIO:
        return ""
    balanced, macro = (report.metrics[name].value or 0.0 for name in ("balanced_accuracy", "macro_f1"))
    return (
        f"With every class counted the same, {percent(balanced)} were classified right (macro F1 {percent(macro)}): "
        f"what to judge by here, as the largest class had {ratio:,.0f} times the training images of the smallest."
    )


def _accuracy(report: Report) -> str:
    metric, counts = report.metrics["accuracy"], report.body["counts"]
    where = "" if report.body["split"] is None else f" of the {report.body['split']} split"
    right = f"{counts['right']:,} of {counts['evaluated']:,} images{where} were classified right"
    said = f"{right}: {percent(metric.value or 0.0)}."
    if flattering(report):
        return said
    counted = report.body.get("intervals_count", {})
    groups = f", counting {counted['number']:,} groups" if counted.get("what") == "groups" else ""
    sure = f"{report.body['confidence']:.0%} confidence{groups}"
    return f"{said} On more images like these, expect {interval(metric)} ({sure}).{_mixed(report)}"


def _mixed(report: Report) -> str:
    metric = report.metrics.get("accuracy_at_prevalence")
    if metric is None or metric.value is None:
        return ""
    return f" At the stated prevalence it is {percent(metric.value)} ({interval(metric)})."


def _references(report: Report) -> str:
    """The accuracy beside the figures that the recipe states for it."""
    table = report.tables.get("references")
    rows = [] if table is None else [row for row in table.rows if row[0] == "accuracy" and row[3] is not None]
    if not rows:
        return ""
    said = [f"{row[1]} {percent(float(str(row[2])))} (measured: {row[6]})" for row in rows]
    return f"Accuracy beside what others state: {'; '.join(said)}."


def _worst(report: Report) -> str:
    table = report.tables["per_class"]
    columns = {name: table.columns.index(name) for name in ("class", "images", "recall")}
    seen = [row for row in table.rows if row[columns["recall"]] is not None]
    low = min(float(row[columns["recall"]] or 0.0) for row in seen)
    worst = [row for row in seen if float(row[columns["recall"]] or 0.0) == low]
    if low == 1.0:
        return f"No image of any of the {len(seen)} classes was classified wrong."
    name, images = worst[0][columns["class"]], int(worst[0][columns["images"]] or 0)
    others = "" if len(worst) == 1 else f" ({len(worst) - 1} more are as weak)"
    return f"The weakest class is “{name}”: {round(low * images):,} of its {images:,} images were found{others}."


def _pair(report: Report) -> str:
    rows = report.tables["confused_pairs"].rows
    if not rows:
        return ""
    true, answered, count, share = rows[0][:4]
    return (
        f"The most frequent mistake: “{true}” was called “{answered}” {count} {'time' if count == 1 else 'times'} "
        f"({percent(float(share or 0.0))} of the images of “{true}”)."
    )


def _rest(report: Report) -> str:
    counts = report.body["counts"]
    left = {
        "unreadable": "could not be read",
        "without_known_label": "had no label that the classifier knows",
        "abstained": "were left for a person to decide",
    }
    parts = [f"{counts[key]:,} {text}" for key, text in left.items() if counts[key]]
    return f"Of {counts['images']:,} images, {'; '.join(parts)}." if parts else ""
