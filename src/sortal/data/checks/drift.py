"""Drift: does what a model is judged on come from the same world as what it learns from?

Compares val and test with train, and each source (column `source`) and camera with all others: what the survey measured
(Kolmogorov-Smirnov), class shares (chi-square), and features (can a linear model tell them apart?). Only differences
that are both certain (Bonferroni over all tests) and large are findings; all are in the table `drift`. Synthetic
images in val or test are found too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding, Table
from sortal.data.assign import assign
from sortal.data.checks.material import Material, Outcome, issues
from sortal.data.held_out import held_out_scores
from sortal.data.table import finding
from sortal.data.two_samples import area_under_curve, chi_square, kolmogorov_smirnov, normal_tail
from sortal.data.units import artificial, units

Rows = NDArray[np.int64]

MEASURED = (
    "bytes",
    "width",
    "height",
    "brightness",
    "dark",
    "light",
    "contrast",
    "sharpness",
    "entropy",
    "chroma",
    "border",
)
LARGE = {"measured": 0.2, "classes": 0.15, "features": 0.75}
"""From which size on a difference matters: distance of distributions, of class shares, area under the curve."""
ALPHA = 0.01
"""Chance of any false finding over all tests."""
LEAST_ROWS = 30
MOST_SOURCES = 8
"""Sources or cameras that are compared, the largest."""
MOST_ROWS = 4000
"""Of each side that the model which tells them apart looks at."""
FOLDS = 5
STRENGTH = 1.0
"""Its penalty; the question is easy or not worth a finding."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two sets of rows; `one` is named."""

    name: str
    other_name: str
    one: Rows
    other: Rows


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One test of two sets."""

    compared: Compared
    kind: str
    what: str
    size: float
    p: float

    def matters(self, tests: int) -> bool:
        """Certain and large."""
        return self.p * tests < ALPHA and self.size >= LARGE[self.kind]


def check(material: Material) -> Outcome:
    """Findings `drift` (one for each pair that differs) and `synthetic_in_test`; table `drift`."""
    found = [difference for compared in _pairs(material) for difference in _differences(material, compared)]
    differing = [difference for difference in found if difference.matters(len(found))]
    by_pair: dict[tuple[str, str], list[Difference]] = {}
    for difference in differing:
        by_pair.setdefault((difference.compared.name, difference.compared.other_name), []).append(difference)
    drawn, drawn_issues = _drawn_in_test(material)
    rows = tuple(
        (d.compared.name, d.compared.other_name, d.what, round(d.size, 4), d.p, d.matters(len(found))) for d in found
    )
    table = Table(columns=("rows", "against", "what", "size", "p", "differs"), rows=rows)
    return Outcome(
        findings=(*(_drift(group) for group in by_pair.values()), *drawn),
        issues=drawn_issues,
        tables={"drift": table} if rows else {},
        body={"tests": len(found), "differing": len(differing)},
    )


def _pairs(material: Material) -> Iterator[Compared]:
    table = material.table
    train = table.split_rows("train")
    for split in ("val", "test"):
        rows = table.split_rows(split)
        if min(len(rows), len(train)) >= LEAST_ROWS:
            yield Compared(name=split, other_name="train", one=rows, other=train)
    columns = [("camera", material.survey.frame["camera"])]
    if "source" in table.frame.columns:
        columns.insert(0, ("source", table.frame["source"].cast(pl.String)))
    for what, values in columns:
        yield from _against_the_rest(what, values)


def _against_the_rest(what: str, values: pl.Series) -> Iterator[Compared]:
    known = np.flatnonzero(values.is_not_null().to_numpy())
    counts = values.drop_nulls().value_counts(sort=True).filter(pl.col("count") >= LEAST_ROWS).head(MOST_SOURCES)
    names = sorted(counts.to_series(0).to_list())
    for name in names[: 1 if len(names) == 2 and values.n_unique() - (values.null_count() > 0) == 2 else None]:
        one = np.flatnonzero((values == name).fill_null(value=False).to_numpy())
        other = np.setdiff1d(known, one, assume_unique=True)
        if len(other) >= LEAST_ROWS:
            yield Compared(name=f"{what} {name}", other_name="the others", one=one, other=other)


def _differences(material: Material, compared: Compared) -> Iterator[Difference]:
    for column in MEASURED:
        values = material.survey.frame[column].cast(pl.Float64).to_numpy()
        one, other = (part[np.isfinite(part)] for part in (values[compared.one], values[compared.other]))
        if min(len(one), len(other)) >= LEAST_ROWS:
            size, p = kolmogorov_smirnov(one, other)
            yield Difference(compared=compared, kind="measured", what=column, size=size, p=p)
    counts = [_class_counts(material, rows) for rows in (compared.one, compared.other)]
    if min(count.sum() for count in counts) >= LEAST_ROWS:
        size, p = chi_square(*counts)
        yield Difference(compared=compared, kind="classes", what="class shares", size=size, p=p)
    if material.features is not None:
        yield from _told_apart(material, material.features, compared)


def _class_counts(material: Material, rows: Rows) -> NDArray[np.float64]:
    labels = material.table.label_array()[rows]
    return np.bincount(labels[labels >= 0], minlength=len(material.table.labels)).astype(np.float64)


def _told_apart(material: Material, features: NDArray[np.float32], compared: Compared) -> Iterator[Difference]:
    """How well a model that never saw a row's unit tells which side it is from: 0.5 not at all, 1 always."""
    generator = np.random.Generator(np.random.Philox(key=0))
    sides = [rows[np.isfinite(features[rows, 0])] for rows in (compared.one, compared.other)]
    sides = [np.sort(generator.permutation(rows)[:MOST_ROWS]) for rows in sides]
    if min(map(len, sides)) < LEAST_ROWS:
        return
    rows = np.concatenate(sides)
    is_one = np.repeat([1, 0], [len(side) for side in sides])
    folds = assign(is_one, units(material.table)[rows], [1 / FOLDS] * FOLDS, generator)
    scores = held_out_scores(features[rows], is_one, folds, 2, strength=STRENGTH)
    area, error = area_under_curve(scores[:, 1].astype(np.float64), is_one == 1)
    yield Difference(
        compared=compared, kind="features", what="features", size=area, p=normal_tail((area - 0.5) / max(error, 1e-9))
    )


def _drift(group: list[Difference]) -> Finding:
    compared = group[0].compared
    told = {
        "measured": "distance {:.2f}",
        "classes": "{:.0%} of the shares differ",
        "features": "told apart, AUC {:.2f}",
    }
    listed = ", ".join(f"{d.what} ({told[d.kind].format(d.size)})" for d in sorted(group, key=lambda d: -d.size)[:5])
    message = f"{compared.name} ({len(compared.one):,} images) differs from {compared.other_name}: {listed}"
    if compared.other_name == "train":
        hint = "fine if production will look like it; else split anew, so that results mean what they say"
    else:
        hint = "see that every class has images of every source, and look at results for each source"
    return finding("drift", "warning", message, hint=hint)


def _drawn_in_test(material: Material) -> tuple[list[Finding], pl.DataFrame]:
    table = material.table
    judged = table.frame["split"].is_in(["val", "test"]).fill_null(value=False).to_numpy()
    bad = np.flatnonzero(artificial(table) & judged)
    if not len(bad):
        return [], Outcome().issues
    names = table.name_series()[bad]
    message = f"{len(bad):,} synthetic images are in val or test: results on them say little about real ones"
    hint = "keep synthetic images in train only"
    found = finding("synthetic_in_test", "error", message, names.head(1000), hint)
    return [found], issues("synthetic_in_test", "error", names, value=table.frame["split"][bad])
