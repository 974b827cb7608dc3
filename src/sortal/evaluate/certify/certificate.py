"""Certify: is a contract kept, on these labelled images, at the confidence it states? Arrays in, a Report out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sortal.core.contract import IMAGE, Contract, check_classes, check_promises
from sortal.core.decision import DecisionSpec
from sortal.core.errors import DataError, InputError, nearest
from sortal.core.predictions import Predictions
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.data.table import ImageTable
from sortal.evaluate.certify.clauses import Clause, Slowest, clauses_of, mixture
from sortal.evaluate.certify.needed import Needed, needed_for
from sortal.evaluate.certify.units import Ints, Units, group_units, image_units
from sortal.evaluate.certify.verdicts import Verdict, verdicts_of, whole
from sortal.evaluate.certify.words import amount, clause_name, clause_sentence, promise, whole_sentence
from sortal.evaluate.latency import Latency, latency_table

KIND = "certificate"
CLAUSES = "clauses"
_COLUMNS = ("clause", "promised", "measured", "bound", "count", "of", "verdict", "still_needed")


def certify(
    contract: Contract,
    predictions: Predictions,
    data: Ints | ImageTable,
    *,
    groups: Sequence[str | None] | None = None,
    decision: DecisionSpec | None = None,
    latency: Latency | None = None,
    network: Latency | None = None,
    size_bytes: int | None = None,
    subject: str = "hold-out",
) -> Report:
    """Each clause of `contract` kept, broken or undecided, by answers to N images.

    `data` are labels (N,), indices into `predictions.labels` with -1 for none, or the table of the images: then classes
    that only the table knows count as images of which every answer is wrong. `groups` (N,) say which images belong
    together; a table has its own. With `unit` a group column, one decision a group is judged, made by `decision`.
    `latency` and `size_bytes` are of the deployed artifact; `network` is told beside. Raises InputError where the
    contract promises nothing or names an unknown class or column, DataError where no image has a label.
    """
    check_promises(contract)
    check_classes(contract, predictions.labels.names, where="contract")
    units = units_of(contract, predictions, data, groups, decision)
    clauses = clauses_of(contract, units, predictions.labels, latency=latency, size_bytes=size_bytes)
    verdicts = verdicts_of(clauses, contract.confidence)
    needed = [
        needed_for(clause, contract.confidence) if verdict == "undecided" else None
        for clause, verdict in zip(clauses, verdicts, strict=True)
    ]
    return _report(contract, predictions, units, clauses, verdicts, needed, [latency, network], subject)


def units_of(
    contract: Contract,
    predictions: Predictions,
    data: Ints | ImageTable,
    groups: Sequence[str | None] | None,
    decision: DecisionSpec | None,
) -> Units:
    """What decisions are judged on, as the contract's `unit` says."""
    labels, names = _labels(predictions, data)
    if not (labels >= 0).any():
        hint = "a hold-out has one folder a class, or a table with a label column"
        raise DataError("no image of the hold-out has a label", hint=hint)
    if contract.unit == IMAGE:
        own = column_texts(data, "group") if groups is None and isinstance(data, ImageTable) else groups
        return image_units(predictions, labels, names=names, groups=own)
    together = column_texts(data, contract.unit) if groups is None and isinstance(data, ImageTable) else groups
    if together is None or all(key is None for key in together):
        hint = "name a column that says which images belong together, or certify with unit: image"
        raise InputError(
            "the contract's unit is a group, and these images have none", received=contract.unit, hint=hint
        )
    return group_units(
        predictions, labels, together, names=names, unit=contract.unit, decision=decision or DecisionSpec()
    )


def _labels(predictions: Predictions, data: Ints | ImageTable) -> tuple[Ints, list[str]]:
    """Class numbers of every image: those of the model, then those that only the data know."""
    own = list(predictions.labels.names)
    given = data.label_array() if isinstance(data, ImageTable) else np.asarray(data, np.int64)
    if len(given) != len(predictions):
        raise DataError(f"labels do not fit {len(predictions)} predictions", received=f"{len(given)} labels")
    if not isinstance(data, ImageTable):
        if given.max(initial=-1) >= len(own):
            raise DataError(f"labels do not fit {len(own)} classes", received=f"label {int(given.max())}")
        return given, own
    mapping = predictions.labels.mapping_from(data.labels)
    used = set(np.unique(given).tolist())
    for place, name in enumerate(data.labels.names):
        if mapping[place] < 0 and place in used:
            mapping[place] = len(own)
            own.append(name)
    return np.array([*mapping, -1], np.int64)[given], own


def column_texts(table: ImageTable, name: str) -> list[str | None]:
    """A column of the table as text, null as None. Raises InputError that names the nearest column."""
    if name not in table.frame.columns:
        known = [column for column in table.frame.columns if not column.startswith("_")]
        what = "the contract's unit is a column that the hold-out does not have"
        raise InputError(what, where=table.source, received=name, hint=nearest(name, known))
    return [None if value is None else str(value) for value in table.frame[name].to_list()]


def _report(
    contract: Contract,
    predictions: Predictions,
    units: Units,
    clauses: Sequence[Clause],
    verdicts: Sequence[Verdict],
    needed: Sequence[Needed | None],
    measured: Sequence[Latency | None],
    subject: str,
) -> Report:
    verdict, level = whole(verdicts), contract.confidence
    sentences = [clause_sentence(*parts, level) for parts in zip(clauses, verdicts, needed, strict=True)]
    times = [one for one in measured if one is not None]
    tables = {CLAUSES: _table(clauses, verdicts, needed, level)}
    if times:
        tables["latency"] = latency_table(times)
    return Report(
        kind=KIND,
        subject=subject,
        metrics={clause.key: _metric(clause, level) for clause in clauses},
        tables=tables,
        findings=(*_clause_findings(clauses, verdicts, sentences), *_data_findings(contract, predictions, units)),
        provenance={
            "bundle": predictions.bundle_id,
            "contract": contract.model_dump(mode="json"),
            "machine": times[0].machine if times else None,
            "precision": times[0].precision if times else None,
        },
        body={
            "verdict": verdict,
            "confidence": level,
            "summary": [whole_sentence(verdict, clauses, verdicts, level), *sentences, *_frames(clauses, times)],
            "headline": [],
            "clauses": [_plain(*parts, level) for parts in zip(clauses, verdicts, needed, strict=True)],
            "unit": units.unit,
            "counts": _counts(predictions, units),
        },
    )


def _table(
    clauses: Sequence[Clause], verdicts: Sequence[Verdict], needed: Sequence[Needed | None], level: float
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for clause, verdict, more in zip(clauses, verdicts, needed, strict=True):
        value = clause.bad.value
        end = clause.bad.lower(level) if verdict == "broken" else clause.bad.upper(level)
        bound = "" if value is None else amount(clause, clause.told(end) if math.isfinite(end) else end)
        still = "" if more is None else "no number would" if more.more is None else f"{more.more:,} {more.of}"
        told = amount(clause, None if value is None else clause.told(value))
        rows.append((clause_name(clause), promise(clause), told, bound, clause.bad.count, clause.of, verdict, still))
    return Table(columns=_COLUMNS, rows=tuple(rows))


def _metric(clause: Clause, level: float) -> Metric:
    """The value in the contract's terms; each end is a one-sided bound at the contract's confidence."""
    if clause.bad.value is None:
        return Metric(value=None, n=0)
    ends = [clause.told(end) for end in (clause.bad.lower(level), clause.bad.upper(level))]
    low, high = (end if math.isfinite(end) else None for end in sorted(ends))
    return Metric(value=clause.told(clause.bad.value), low=low, high=high, n=clause.bad.count)


def _plain(clause: Clause, verdict: Verdict, needed: Needed | None, level: float) -> dict[str, object]:
    metric = _metric(clause, level)
    return {
        "key": clause.key,
        "promised": clause.promised,
        "value": metric.value,
        "low": metric.low,
        "high": metric.high,
        "count": clause.bad.count,
        "groups": getattr(clause.bad, "groups", None),
        "of": clause.of,
        "verdict": verdict,
        "needed": None if needed is None else needed.more,
        "needed_of": None if needed is None else needed.of,
    }


def _frames(clauses: Sequence[Clause], times: Sequence[Latency]) -> list[str]:
    """What a latency means in frames a second, end to end and for the network alone, which are different numbers."""
    if not times or not any(isinstance(clause.bad, Slowest) for clause in clauses):
        return []
    kinds = ["from bytes to decision" if one.end_to_end else "by the network alone" for one in times]
    parts = [f"{one.images_per_s:,.0f} images a second {kind}" for one, kind in zip(times, kinds, strict=True)]
    one = times[0]
    threads = "1 thread" if one.threads == 1 else f"{one.threads} threads"
    where = f"{one.machine}, {threads}, {one.engine}, {one.precision}, batch {one.batch}"
    return [f"Speed on this machine ({where}): {' and '.join(parts)}."]


def _clause_findings(clauses: Sequence[Clause], verdicts: Sequence[Verdict], sentences: Sequence[str]) -> list[Finding]:
    found = []
    for clause, verdict, sentence in zip(clauses, verdicts, sentences, strict=True):
        if verdict != "kept":
            code = f"{clause.key.partition('.')[0]}_{verdict}"
            found.append(Finding(code=code, severity="error" if verdict == "broken" else "warning", message=sentence))
    return found


def _data_findings(contract: Contract, predictions: Predictions, units: Units) -> list[Finding]:
    counts = units.counts()
    found = [_mix_finding(contract)]
    absent = [name for name, count in zip(units.names[: units.known], counts, strict=False) if not count]
    if absent:
        message = (
            f"{len(absent)} classes of the model have no image here: {', '.join(absent[:10])}. "
            "Nothing is said about them; clauses that need them are undecided."
        )
        found.append(Finding(code="class_without_images", severity="warning", message=message, rows=tuple(absent)))
    strange = units.names[units.known :]
    if strange:
        many = int(counts[units.known :].sum())
        message = (
            f"{many} images are of classes that the model does not know: {', '.join(strange[:10])}. "
            "Every answer given to them counts as wrong, sending them to a person as right."
        )
        found.append(Finding(code="class_unknown_to_model", severity="warning", message=message, rows=tuple(strange)))
    missing = mixture(contract, units).missing
    if missing:
        said = ", ".join(f"{name} ({share:.2%})" for name, share in missing[:10])
        message = f"Of classes with a prevalence there is no image: {said}. What depends on them is undecided."
        found.append(Finding(code="prevalence_without_images", severity="warning", message=message))
    if predictions.errors:
        rows = tuple(predictions.names[row] for row in sorted(predictions.errors))[:1000]
        message = f"{len(predictions.errors)} images could not be read; they count as left to a person."
        found.append(Finding(code="unreadable", severity="warning", message=message, rows=rows))
    if units.groups is not None:
        number = len(np.unique(units.groups))
        message = (
            f"{len(units.labels):,} images come in {number:,} groups; images of a group may be wrong together, "
            "and the bounds allow for that."
        )
        found.append(Finding(code="grouped", severity="info", message=message))
    return found


def _mix_finding(contract: Contract) -> Finding:
    if contract.prevalence:
        message = "Classes are mixed by the contract's prevalence, not as in the hold-out."
        return Finding(code="prevalence_stated", severity="info", message=message)
    message = "No prevalence is stated: classes are assumed to be as frequent in production as in this hold-out."
    hint = "state it where that is not so: prevalence: {crack: 0.005}"
    return Finding(code="prevalence_assumed", severity="info", message=message, hint=hint)


def _counts(predictions: Predictions, units: Units) -> dict[str, int]:
    return {
        "images": len(predictions),
        "units": len(units.labels),
        "answered": int(units.answered.sum()),
        "wrong": int(units.wrong.sum()),
        "unreadable": len(predictions.errors),
        "classes": len(units.names),
    }
