"""Label errors: images whose label a model that never saw them doubts, and classes mixed up in both directions.

Probabilities out of fold are judged by confident learning (Northcutt, Jiang and Chuang 2021, "Confident learning:
estimating uncertainty in dataset labels"): a class speaks for an image where it is at least as probable as it is for
the images that carry it on average, which allows for classes that are hard. The confidence that a label is wrong weighs
the most probable other class against the given one. No probabilities, no finding.

Shapes: N rows, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.report import Finding, Table
from sortal.core.shares import wilson
from sortal.data.checks.material import Material, Outcome, issues
from sortal.data.definitions import Definitions, check_definitions, find_definitions
from sortal.data.table import ImageTable, finding
from sortal.data.units import units

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRIOR = 0.1
"""How often a label is thought to be wrong before an image is looked at: another class must be nine times as probable
as the given one for even odds. Where one label in twenty is wrong, nine of ten listed are (Grocery Store)."""
LEAST_UNITS = 3
"""Independent images a class needs to be judged: with fewer, the model that judges has hardly seen it."""
MIXED = 0.3
"""Share of two classes' images that are taken for the other from which on they are candidates for merging."""
LEAST_MIXED = 5
SHOWN = 200
NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What out-of-fold probabilities say about N labels."""

    confidence: Floats
    """(N,) 0 to 1 that the label is wrong; 0 where nothing can be said."""
    suggested: Ints
    """(N,) the most probable other class; -1 where nothing can be said."""
    answered: Ints
    """(N,) the most probable class; -1 where nothing can be said."""
    wrong: NDArray[np.bool_]
    """(N,) counted by confident learning as carrying another class's label."""
    judged: int


def check(material: Material) -> Outcome:
    """Findings `label_errors`, `mixed_classes`, `definitions_invalid`; issues `label_error`, sorted by confidence, with
    the suggested class as repair; tables `label_errors` and `mixed_classes`."""
    definitions, damaged = _definitions(material.table)
    if material.probabilities is None:
        return Outcome(findings=damaged)
    table = material.table
    found = suspects(material.probabilities, table.label_array(), units(table))
    listed = np.flatnonzero(found.confidence >= material.limits.label_error)
    listed = listed[np.argsort(-found.confidence[listed], kind="stable")]
    known = definitions.confusions() if definitions is not None else frozenset()
    mixed = _mixed(table, found, known)
    told = _told(table, found, listed) if len(listed) else ()
    return Outcome(
        findings=(*told, *_merging(mixed), *damaged),
        issues=_issues(table, found, listed, known),
        tables={
            **({"label_errors": _suspect_table(table, found, listed[:SHOWN], known)} if len(listed) else {}),
            **({"mixed_classes": mixed} if mixed.rows else {}),
        },
        body=_body(found, listed),
    )


def suspects(probabilities: NDArray[np.float32], labels: Ints, kept_together: Ints) -> Suspects:
    """Judges (N,) labels by (N, K) probabilities out of fold; rows of NaN, without a label, or of classes of fewer than
    LEAST_UNITS units (N,) are not judged."""
    count, classes = probabilities.shape
    rows = np.flatnonzero((labels >= 0) & np.isfinite(probabilities).all(axis=1))
    pairs = np.unique(np.stack([labels[rows], kept_together[rows]]), axis=1)[0]
    rows = rows[np.bincount(pairs, minlength=classes)[labels[rows]] >= LEAST_UNITS]
    confidence, suggested, answered = np.zeros(count), np.full(count, -1), np.full(count, -1)
    wrong = np.zeros(count, bool)
    if len(rows):
        p, y = probabilities[rows].astype(np.float64), labels[rows]
        at = np.arange(len(rows))
        given = p[at, y]
        usual = np.bincount(y, weights=given, minlength=classes) / np.maximum(np.bincount(y, minlength=classes), 1)
        usual[np.bincount(y, minlength=classes) == 0] = np.inf
        answered[rows] = p.argmax(axis=1)
        speaks = np.where(p >= usual, p, -1.0)
        wrong[rows] = (speaks.max(axis=1) > 0) & (speaks.argmax(axis=1) != y)
        p[at, y] = -1.0
        suggested[rows] = p.argmax(axis=1)
        other = p[at, suggested[rows]]
        doubt, trust = PRIOR * other, (1.0 - PRIOR) * given
        confidence[rows] = doubt / np.maximum(doubt + trust, 1e-12)
    return Suspects(confidence=confidence, suggested=suggested, answered=answered, wrong=wrong, judged=len(rows))


def _definitions(table: ImageTable) -> tuple[Definitions | None, tuple[Finding, ...]]:
    try:
        definitions = find_definitions(table.root)
        if definitions is not None:
            check_definitions(definitions, table.labels)
    except DataError as error:
        message = f"the class definitions cannot be used: {error.what}" + (
            f": {error.received}" if error.received else ""
        )
        return None, (finding("definitions_invalid", "warning", message, hint=error.hint),)
    return definitions, ()


def _told(table: ImageTable, found: Suspects, listed: Ints) -> tuple[Finding, ...]:
    names, classes, given = table.name_series()[listed], table.labels.names, table.label_array()
    examples = ", ".join(
        f"{names[i]} ({classes[given[row]]}, looks like {classes[found.suggested[row]]})"
        for i, row in enumerate(listed[:NAMED])
    )
    share, low, high = _share(found)
    inside = ""
    if table.labels.parents is not None:
        same = int(_same_parent(table, given[listed], found.suggested[listed]).sum())
        inside = f"; {same:,} of the suggestions stay inside the coarse class"
    message = (
        f"{len(listed):,} of {found.judged:,} labels look wrong: {examples}; about {share:.1%} of all labels are "
        f"({low:.1%} to {high:.1%}){inside}"
    )
    hint = "look at them from the top; `sortal fix` can relabel those that you confirm"
    return (finding("label_errors", "warning", message, names.head(1000), hint),)


def _share(found: Suspects) -> tuple[float, float, float]:
    """Estimated share of wrong labels with an interval around it.

    What confident learning counts is a little low (130 of 147 planted on Grocery Store), the sum of confidences high
    (180): the interval is from the low end of Wilson's for the one to the high end for the other.
    """
    counted = int(found.wrong.sum())
    expected = max(counted, min(found.judged, round(float(found.confidence.sum()))))
    low, _ = wilson(counted, found.judged)
    _, high = wilson(expected, found.judged)
    return counted / max(found.judged, 1), float(low), float(high)


def _same_parent(table: ImageTable, one: Ints, other: Ints) -> NDArray[np.bool_]:
    parent = np.array(table.labels.coarse_index() or [0] * len(table.labels))
    return np.asarray(parent[one] == parent[other])


def _issues(table: ImageTable, found: Suspects, listed: Ints, known: frozenset[frozenset[str]]) -> pl.DataFrame:
    classes, given = table.labels.names, table.label_array()
    suggested = [classes[label] for label in found.suggested[listed]]
    words = [
        f"labeled {one}, looks like {other}" + (" (known to be confused)" if frozenset((one, other)) in known else "")
        for one, other in zip((classes[label] for label in given[listed]), suggested, strict=True)
    ]
    return issues(
        "label_error",
        "warning",
        table.name_series()[listed],
        score=found.confidence[listed].tolist(),
        value=words,
        do="relabel",
        to=suggested,
    )


def _suspect_table(table: ImageTable, found: Suspects, listed: Ints, known: frozenset[frozenset[str]]) -> Table:
    names, classes, given = table.name_series()[listed], table.labels.names, table.label_array()
    inside = _same_parent(table, given[listed], found.suggested[listed])
    rows = tuple(
        (
            names[i],
            classes[given[row]],
            classes[found.suggested[row]],
            round(float(found.confidence[row]), 4),
            bool(inside[i]) if table.labels.parents is not None else None,
            frozenset((classes[given[row]], classes[found.suggested[row]])) in known,
        )
        for i, row in enumerate(listed)
    )
    return Table(columns=("image", "given", "suggested", "confidence", "inside coarse class", "known"), rows=rows)


def _mixed(table: ImageTable, found: Suspects, known: frozenset[frozenset[str]]) -> Table:
    """Pairs of classes whose images are taken for the other, in both directions, the most mixed up first."""
    labels, classes = table.label_array(), len(table.labels)
    rows = np.flatnonzero(found.answered >= 0)
    have = np.bincount(labels[rows], minlength=classes)
    wrong = rows[found.answered[rows] != labels[rows]]
    cells, counts = np.unique(labels[wrong] * classes + found.answered[wrong], return_counts=True)
    number = dict(zip(cells.tolist(), counts.tolist(), strict=True))
    pairs = []
    for cell, there in number.items():
        one, other = divmod(cell, classes)
        back = number.get(other * classes + one, 0)
        share = (there + back) / max(int(have[one] + have[other]), 1)
        if one < other and back and there + back >= LEAST_MIXED:
            pairs.append((one, other, there, back, share))
    pairs.sort(key=lambda pair: (-pair[4], pair[0], pair[1]))
    names = table.labels.names
    cells_of = tuple(
        (
            names[one],
            names[other],
            there,
            back,
            round(share, 4),
            share >= MIXED,
            frozenset((names[one], names[other])) in known,
        )
        for one, other, there, back, share in pairs[:SHOWN]
    )
    return Table(
        columns=("class", "other", "taken for other", "other for class", "share", "merge?", "known"), rows=cells_of
    )


def _merging(mixed: Table) -> tuple[Finding, ...]:
    candidates = [row for row in mixed.rows if row[5]]
    if not candidates:
        return ()
    listed = ", ".join(f"{row[0]} and {row[1]} ({row[4]:.0%})" for row in candidates[:NAMED])
    message = f"{len(candidates)} pairs of classes are mixed up in both directions: {listed}"
    hint = "define how they differ (classes.yaml), take more telling images, or merge them"
    return (finding("mixed_classes", "info", message, hint=hint),)


def _body(found: Suspects, listed: Ints) -> dict[str, object]:
    share, low, high = _share(found)
    return {"judged": found.judged, "listed": len(listed), "wrong_share": share, "wrong_low": low, "wrong_high": high}
