"""From classifiers that have answered to a comparison report: common classes and images, tests, costs, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.predictions import Predictions
from sortal.core.report import Finding, Report
from sortal.data.table import ImageTable
from sortal.evaluate.asked import group_numbers
from sortal.evaluate.compare.bootstrap import Answers
from sortal.evaluate.compare.changes import Pair
from sortal.evaluate.compare.costs import ModelCost, artifact_size_mb, costs_table, measured_macs
from sortal.evaluate.compare.report import Compared, compare_pair, many_report, pair_report
from sortal.evaluate.compare.sides import Contender, class_findings, common_answers, common_classes
from sortal.evaluate.measure.grouped import Sample, grouped, share_interval
from sortal.evaluate.measure.slices import slicings
from sortal.evaluate.seen import seen_findings

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Timed(Protocol):
    """What is needed of a measured latency; `evaluate.latency.Latency` has it."""

    @property
    def p50_ms(self) -> float:
        """Median."""

    @property
    def p95_ms(self) -> float:
        """95th percentile."""

    @property
    def images_per_s(self) -> float:
        """Throughput."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One classifier's part: who it is, what it said about all images, what it costs by batch size."""

    who: Contender
    labels: LabelSet
    predictions: Predictions
    latencies: dict[int, Timed]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The report, and what its pictures are drawn from."""

    report: Report
    table: ImageTable
    rows: Ints
    """Which row of the table each compared image is."""
    compared: Sequence[Compared]
    costs: list[ModelCost]


def gather(sides: Sequence[Side], table: ImageTable, *, by: Sequence[str], confidence: float) -> Gathered:
    """Hold every classifier against the first on the images of a scanned table whose class all of them know.

    Raises DataError where there is no such class, or no such image.
    """
    common = common_classes([side.labels for side in sides])
    labels = np.array([*common.mapping_from(table.labels), -1], dtype=np.int64)[table.label_array()]
    found = [common_answers(side.predictions, common) for side in sides]
    answers = [one for one, _ in found]
    rows = np.flatnonzero((labels >= 0) & np.all([one.index >= 0 for one in answers], axis=0))
    if not len(rows):
        raise DataError("no image has a class that all models know", where=table.source)
    compared = _compared(sides, answers, labels, rows, common, table, confidence)
    sample = grouped(group_numbers(table)[rows], confidence=confidence)
    costs, notes = _costs(sides, [labels[rows] == one.index[rows] for one in answers], sample)
    findings = [found for side in sides for found in _seen(side.who, table)]
    findings += class_findings([side.who for side in sides], [side.labels for side in sides], common)
    findings += [*_left_out(table, labels, answers), *notes]
    report = _report(compared, table, rows, by, confidence)
    warned = [f"Careful: {one.message}" for one in findings if one.severity == "error"]
    moved = {side.who.name: count for side, (_, count) in zip(sides, found, strict=True) if count}
    more = {
        "data_digest": table.content_digest,
        "tables": {"models": costs_table(costs), **report.tables},
        "findings": (*findings, *report.findings),
        "provenance": {
            "models": {side.who.name: side.predictions.bundle_id for side in sides},
            "answers of classes that not all models know": moved,
        },
        "body": {**report.body, "images": len(rows), "summary": [*warned, *report.body["summary"]]},
    }
    return Gathered(report=report.model_copy(update=more), table=table, rows=rows, compared=compared, costs=costs)


def _seen(who: Contender, table: ImageTable) -> list[Finding]:
    hint = "compare on images that no model has seen"
    return seen_findings(table, who.bundle, who.run, name=who.name, hint=hint)


def _compared(
    sides: Sequence[Side],
    answers: Sequence[Answers],
    labels: Ints,
    rows: Ints,
    common: LabelSet,
    table: ImageTable,
    confidence: float,
) -> list[Compared]:
    names = table.names()
    images, groups = tuple(names[row] for row in rows.tolist()), _groups(table, rows)
    return [
        compare_pair(
            Pair(
                labels=labels[rows],
                first=_at(answers[0], rows),
                second=_at(answer, rows),
                classes=common.names,
                images=images,
                groups=groups,
            ),
            (sides[0].who.name, side.who.name),
            confidence=confidence,
        )
        for side, answer in zip(sides[1:], answers[1:], strict=True)
    ]


def _report(
    compared: Sequence[Compared], table: ImageTable, rows: Ints, by: Sequence[str], confidence: float
) -> Report:
    if len(compared) > 1:
        return many_report(compared, subject=table.source, confidence=confidence)
    slices = {one.by: one.names[rows].tolist() for one in slicings(table, by)}
    return pair_report(compared[0], subject=table.source, confidence=confidence, slices=slices)


def _costs(sides: Sequence[Side], right: Sequence[Bools], sample: Sample) -> tuple[list[ModelCost], list[Finding]]:
    rows, notes = list[ModelCost](), list[Finding]()
    for side, hits in zip(sides, right, strict=True):
        macs, why = measured_macs(side.who)
        rows.append(_cost(side, hits, macs, sample))
        notes += why
    return rows, notes


def _cost(side: Side, hits: Bools, macs: int | None, sample: Sample) -> ModelCost:
    low, high = share_interval(sample, hits)
    model = side.who.bundle.manifest.model if side.who.bundle is not None else None
    one, many = side.latencies.get(1), side.latencies.get(32)
    return ModelCost(
        model=side.who.name,
        architecture=None if model is None else model.architecture,
        accuracy=float(hits.mean()),
        accuracy_low=float(low),
        accuracy_high=float(high),
        parameters=None if model is None or not model.parameters else model.parameters,
        macs=macs,
        size_mb=artifact_size_mb(side.who),
        latency_1_ms=None if one is None else round(one.p50_ms, 2),
        latency_1_p95_ms=None if one is None else round(one.p95_ms, 2),
        latency_32_ms=None if many is None else round(many.p50_ms, 2),
        images_per_s=None if many is None else round(many.images_per_s, 1),
    )


def _left_out(table: ImageTable, labels: Ints, answers: Sequence[Answers]) -> list[Finding]:
    """Images that could not take part: without a class that all know, or unreadable."""
    names = table.names()
    unreadable = np.any([one.index < 0 for one in answers], axis=0)
    kinds = {
        "unknown_label": (labels < 0, "have no class that all models know"),
        "unreadable": (unreadable & (labels >= 0), "could not be read"),
    }
    return [
        Finding(
            code=code,
            severity="warning",
            message=f"{int(mask.sum()):,} of {len(names):,} images {text} and are left out.",
            rows=tuple(names[row] for row in np.flatnonzero(mask)[:1000]),
        )
        for code, (mask, text) in kinds.items()
        if mask.any()
    ]


def _groups(table: ImageTable, rows: Ints) -> Ints | None:
    """What belongs together, (len(rows),), where the table says so; an image without a group stands for itself."""
    named = table.frame["group"].to_list()
    if all(named[row] is None for row in rows.tolist()):
        return None
    known = {name: number for number, name in enumerate(dict.fromkeys(named))}
    return np.array([known[named[row]] if named[row] is not None else len(known) + row for row in rows.tolist()])


def _at(answers: Answers, rows: Ints) -> Answers:
    return Answers(index=answers.index[rows], probability=answers.probability[rows])
