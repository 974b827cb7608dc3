"""From the answers of two or more classifiers to a comparison Report. Arrays in, report out; nothing is read or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.report import Cell, Metric, Report, Table
from sortal.evaluate.compare.bootstrap import bootstrap_differences
from sortal.evaluate.compare.changes import Pair, by_class, by_slice, change_findings, changed_images
from sortal.evaluate.compare.paired import PairedTest, difference_interval, paired_test
from sortal.evaluate.compare.verdict import better_of, p_text, verdict
from sortal.evaluate.measure.weaker import holm

Ints = NDArray[np.int64]

COVERAGE = 0.9
"""The share of images, the surest ones, among which errors are compared."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two classifiers held against each other: the test, the differences, and the sentence that sums it up."""

    names: tuple[str, str]
    pair: Pair
    test: PairedTest
    metrics: dict[str, Metric]
    sentence: str


def compare_pair(pair: Pair, names: tuple[str, str], *, confidence: float) -> Compared:
    """Test and measure the second classifier against the first."""
    before, after = pair.right
    test = paired_test(before, after, pair.groups)
    metrics = bootstrap_differences(
        pair.labels,
        pair.first,
        pair.second,
        classes=len(pair.classes),
        confidence=confidence,
        coverage=COVERAGE,
        groups=pair.groups,
    )
    units = test.n if pair.groups is None else len(np.unique(pair.groups))
    gap = _accuracy_gap(metrics["accuracy_difference"], test, int(before.sum()), confidence, units)
    wrong = (int((~before).sum()), int((~after).sum()))
    return Compared(
        names=names,
        pair=pair,
        test=test,
        metrics={**metrics, "accuracy_difference": gap},
        sentence=verdict(test, gap, names, confidence=confidence, wrong=wrong),
    )


def pair_report(
    compared: Compared, *, subject: str, confidence: float, slices: Mapping[str, Sequence[str]] | None = None
) -> Report:
    """The report of two classifiers: verdict, differences, classes, slices (column -> values (N,)), changed images."""
    pair, test = compared.pair, compared.test
    tables = {"classes": by_class(pair)}
    tables |= {f"by {column}": by_slice(pair, column, values) for column, values in (slices or {}).items()}
    findings = [found for table in tables.values() for found in change_findings(table, compared.names, confidence)]
    tables["changed"] = changed_images(pair)
    metrics = {
        **compared.metrics,
        "p": Metric(value=test.p, n=test.units),
        "mid_p": Metric(value=test.mid_p, n=test.units),
        "images_better": Metric(value=test.better, n=test.n),
        "images_worse": Metric(value=test.worse, n=test.n),
    }
    return Report(
        kind="comparison",
        subject=subject,
        metrics=metrics,
        tables=tables,
        findings=tuple(findings),
        body={
            "first": compared.names[0],
            "second": compared.names[1],
            "better": ("", *compared.names)[{0: 0, -1: 1, 1: 2}[better_of(test, confidence)]],
            "confidence": confidence,
            "coverage": COVERAGE,
            "headline": ["accuracy_difference", "images_better", "images_worse", "p"],
            "summary": [compared.sentence, *_more(compared)],
        },
    )


def many_report(compared: Sequence[Compared], *, subject: str, confidence: float) -> Report:
    """The report of three or more classifiers, each held against the first; p values corrected by Holm's method."""
    corrected = holm([one.test.p for one in compared])
    rows: list[tuple[Cell, ...]] = []
    for one, p in zip(compared, corrected, strict=True):
        gap = one.metrics["accuracy_difference"]
        rows.append((one.names[1], gap.value, gap.low, gap.high, one.test.better, one.test.worse, one.test.p, p))
    columns = (f"against {compared[0].names[0]}", "difference", "from", "to", "better", "worse", "p", "p_holm")
    sure = [row for row in rows if float(str(row[7])) <= 1 - confidence and row[4] != row[5]]
    return Report(
        kind="comparison",
        subject=subject,
        tables={"against_the_first": Table(columns=columns, rows=tuple(rows))},
        body={
            "first": compared[0].names[0],
            "confidence": confidence,
            "summary": [_many_sentence(compared[0].names[0], rows, sure)],
        },
    )


def _accuracy_gap(gap: Metric, test: PairedTest, right_a: int, confidence: float, units: int) -> Metric:
    """The resampled interval widened to Newcombe's of as many images as there are groups (or images, without groups):
    that does not collapse where few images differ."""
    share = units / test.n
    fewer = PairedTest(
        n=units, better=round(test.better * share), worse=round(test.worse * share), p=test.p, mid_p=test.mid_p, units=0
    )
    low, high = difference_interval(
        fewer, min(max(round(right_a * share), fewer.worse), units - fewer.better), confidence
    )
    ends = [end for end in (gap.low, gap.high) if end is not None]
    return Metric(value=gap.value, low=min(low, *ends), high=max(high, *ends), n=gap.n)


def _more(compared: Compared) -> list[str]:
    test, (first, second) = compared.test, compared.names
    said = [
        f"{second} got {test.better:,} {'image' if test.better == 1 else 'images'} right that {first} got wrong, "
        f"and {test.worse:,} wrong that {first} got right.",
        f"Macro F1: {_points(compared.metrics['macro_f1_difference'])}. Error among the {COVERAGE:.0%} surest answers "
        f"of each: {_points(compared.metrics['error_at_coverage_difference'])}.",
    ]
    if compared.pair.groups is not None:
        count = len(np.unique(compared.pair.groups))
        said.append(f"Images that belong together were counted as one piece of evidence: {count:,} groups.")
    return [*said, f"In the tables, first is {first} and second is {second}."]


def _points(metric: Metric) -> str:
    """`+2.1 points (0.4 to 3.8)`."""
    value, low, high = (100 * (end or 0.0) for end in (metric.value, metric.low, metric.high))
    return f"{value:+.1f} points ({low:.1f} to {high:.1f})"


def _many_sentence(first: str, rows: Sequence[tuple[Cell, ...]], sure: Sequence[tuple[Cell, ...]]) -> str:
    if not sure:
        least = min(float(str(row[7])) for row in rows)
        return f"None of the {len(rows)} others differs from {first} beyond chance (smallest p {p_text(least)})."
    told = [
        f"{row[0]} is {'better' if int(str(row[4])) > int(str(row[5])) else 'worse'} "
        f"({100 * float(str(row[1])):+.1f} points, p = {p_text(float(str(row[7])))})"
        for row in sure
    ]
    return f"Against {first}, with p values corrected for {len(rows)} comparisons: {'; '.join(told)}."
