"""The story of `sortal audit`: look at every image once, see it through a network where one is at hand, run the checks,
and say what matters first, what to do about it, and where the evidence is.

Nothing is changed and nothing is learned that lasts: repairs are `sortal fix`, splits are `sortal split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sortal.audit_actions import worth_doing
from sortal.audit_files import Pieces, check_out, write_audit
from sortal.audit_sight import Sight, see
from sortal.core.errors import DataError, InputError
from sortal.core.progress import Listener
from sortal.core.report import Finding, Metric, Report, Table
from sortal.data.checks import CHECKS
from sortal.data.checks.material import ISSUES, Material, Outcome
from sortal.data.checks.pairs import related_table
from sortal.data.near import near_duplicates
from sortal.data.repair.suggest import plan_from
from sortal.data.small_pictures import small_pictures
from sortal.data.survey import Survey, survey
from sortal.data.table import SPLITS, ImageTable
from sortal.data.units import units
from sortal.evaluate.folds import out_of_fold

SEVERITIES = ("error", "warning", "info")
BY_FEATURES = ("labels", "outliers")
"""Checks that look at nothing but the images that a network has seen."""
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What to audit with. `only` and `skip` are names of checks; `features` is auto, none or a weights card."""

    model: Path | None = None
    features: str = "auto"
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    thumbnails: bool = True


def audit_table(table: ImageTable, *, wish: Wish, out: Path | None, subject: str, listener: Listener) -> Report:
    """Audit the images of `table` and write page, report, findings and plan into `out`, or into the next free folder
    `audits/<subject>-N`.

    Raises InputError for an unknown check, DataError where there is no image at all.
    """
    names = chosen_checks(wish.only, wish.skip)
    refuse_contradictions(wish)
    check_out(out)
    if not len(table) and not table.rejected.height:
        raise DataError("there are no images", where=table.source)
    scanned, found = survey(table, progress=lambda done, total: listener.progress("looking at images", done, total))
    sight = see(scanned, model=wish.model, features=wish.features, listener=listener)
    if len(scanned):
        material = related(scanned, found, sight, listener)
    else:  # nothing can be said but why
        material, names = Material(table=scanned, survey=found), [name for name in names if name == "readable"]
    outcomes = run_checks(names, material, listener)
    report, issues = compose(material, outcomes, sight, subject=subject)
    plan = plan_from(issues, material.table, listing=table.listing_digest)
    pieces = Pieces(report=report, issues=issues, plan=plan, material=material, sight=sight, thumbnails=wish.thumbnails)
    return write_audit(pieces, out, subject=subject, listener=listener)


def chosen_checks(only: Sequence[str], skip: Sequence[str]) -> list[str]:
    """Names of checks in the order of the page. Raises InputError for one that does not exist."""
    for name in (*only, *skip):
        if name not in CHECKS.names():
            CHECKS.get(name)
    return [name for name in CHECKS.names() if (not only or name in only) and name not in skip]


def related(scanned: ImageTable, found: Survey, sight: Sight, listener: Listener) -> Material:
    """What checks look at: near duplicates and bursts are found first, so that labels are judged by models that never
    saw a copy of the image."""
    listener.progress("comparing images", 0, 1)
    features = sight.features if sight.complete else None
    near = near_duplicates(found, features, partial(small_pictures, scanned))
    first = Material(table=scanned, survey=found, features=features, known={"near": near})
    table = related_table(first)
    listener.progress("comparing images", 1, 1)
    probabilities = None
    if sight.features is not None and len(table.labels) > 1:
        listener.progress("judging labels", 0, 1)
        classes = len(table.labels)
        probabilities = out_of_fold(sight.features, table.label_array(), units(table), classes, folds=FOLDS, seed=0)
        probabilities = sight.with_own_answers(probabilities)
        listener.progress("judging labels", 1, 1)
    return replace(first, table=table, features=sight.features, probabilities=probabilities)


def run_checks(names: Sequence[str], material: Material, listener: Listener) -> dict[str, Outcome]:
    """The outcome of each check. Where a network has seen a sample only, checks that need features look at that sample
    and all others at everything, without features."""
    features = material.features
    seen = None if features is None else np.isfinite(features).all(axis=1)
    if seen is None or seen.all():
        everything, sample = material, material
    else:
        everything = replace(material, features=None, probabilities=None)
        sample = _rows(material, np.flatnonzero(seen))
    outcomes = {}
    for number, name in enumerate(names):
        listener.progress("checking", number, len(names))
        outcomes[name] = CHECKS.get(name).check(sample if name in BY_FEATURES else everything)
    listener.progress("checking", len(names), len(names))
    return outcomes


def compose(
    material: Material, outcomes: dict[str, Outcome], sight: Sight, *, subject: str
) -> tuple[Report, pl.DataFrame]:
    """The report, worst findings first and among equals in the order of the checks, and all issues in that order."""
    table = material.table
    issues = in_order(pl.concat([pl.DataFrame(schema=ISSUES), *(one.issues for one in outcomes.values())]))
    findings = [*(found for one in outcomes.values() for found in one.findings), *_of_source(table, outcomes)]
    findings += sight.findings
    findings.sort(key=lambda found: SEVERITIES.index(found.severity))
    actions = worth_doing(findings, issues, table, outcomes)
    report = Report(
        kind="audit",
        subject=table.source,
        data_digest=None if table.frame["digest"].null_count() else table.content_digest,
        metrics=_metrics(table, issues),
        tables=_tables(issues, outcomes),
        findings=tuple(findings),
        provenance={"listing_digest": table.listing_digest, "features": sight.by},
        body={
            "headline": ["images", "cannot_be_used", "images_with_issues", "severe"],
            "counts": {"images": len(table), "classes": len(table.labels)},
            "summary": [_summary(table, issues, findings)],
            "actions": [asdict(action) for action in actions],
            "limits": asdict(material.limits),
            "checks": {name: dict(one.body) for name, one in outcomes.items()},
            "name": subject,
        },
    )
    return report, issues


def in_order(issues: pl.DataFrame) -> pl.DataFrame:
    """Errors first; then in the order of the checks; the surest of each code first."""
    rank = pl.col("severity").replace_strict(list(SEVERITIES), [0, 1, 2], return_dtype=pl.Int64)
    keyed = issues.with_row_index("_at").with_columns(_rank=rank, _place=pl.col("_at").min().over("code"))
    descending = [False, False, True, False]
    order = keyed.sort("_rank", "_place", "score", "name", descending=descending, nulls_last=True, maintain_order=True)
    return order.drop("_at", "_rank", "_place")


def _rows(material: Material, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Material:
    found = material.survey
    part = replace(found, frame=found.frame[rows], hashes=found.hashes[rows], tiny=found.tiny[rows])
    features, probabilities = material.features, material.probabilities
    return replace(
        material,
        table=material.table.select(rows),
        survey=part,
        known={},
        features=None if features is None else features[rows],
        probabilities=None if probabilities is None else probabilities[rows],
    )


def _of_source(table: ImageTable, outcomes: dict[str, Outcome]) -> list[Finding]:
    """What reading the source has found, as far as no check says it better."""
    told = {found.code for one in outcomes.values() for found in one.findings}
    told |= {"unreadable", "exact_duplicates", "conflicting_labels"}
    return [found for found in table.findings if found.code not in told]


def _metrics(table: ImageTable, issues: pl.DataFrame) -> dict[str, Metric]:
    severities = dict(issues["severity"].value_counts().rows())
    total = len(table) + table.rejected.height
    counts = {
        "images": total,
        "cannot_be_used": table.rejected.height,
        "images_with_issues": issues.filter(pl.col("severity") != "info")["name"].n_unique(),
        "severe": severities.get("error", 0),
        "warnings": severities.get("warning", 0),
        "remarks": severities.get("info", 0),
        "classes": len(table.labels),
        "unlabeled": int((table.label_array() < 0).sum()),
        **{f"{split}_images": len(table.split_rows(split)) for split in SPLITS if len(table.split_rows(split))},
    }
    return {name: Metric(value=count) for name, count in counts.items()}


def _tables(issues: pl.DataFrame, outcomes: dict[str, Outcome]) -> dict[str, Table]:
    counted = issues.group_by("code", "severity", maintain_order=True).agg(pl.col("name").n_unique())
    tables = {"issues": Table(columns=("code", "severity", "images"), rows=tuple(counted.rows()))}
    for name, outcome in outcomes.items():
        tables |= {key if key not in tables else f"{name}_{key}": table for key, table in outcome.tables.items()}
    return tables


def _summary(table: ImageTable, issues: pl.DataFrame, findings: Sequence[Finding]) -> str:
    total = len(table) + table.rejected.height
    touched = issues.filter(pl.col("severity") != "info")["name"].n_unique()
    severe = issues.filter(pl.col("severity") == "error")["name"].n_unique()
    if not touched and any(found.severity == "error" for found in findings):
        return f"No single image stands out among {total:,}, but something is wrong with them as a whole."
    if not touched:
        return f"No image needs a look, as far as this audit can see ({total:,} in all)."
    return f"{touched:,} of {total:,} {'image needs' if total == 1 else 'images need'} a look" + (
        f", {severe:,} of them urgently." if severe else "."
    )


def refuse_contradictions(wish: Wish) -> None:
    """Raises InputError where two networks are named."""
    if wish.model is not None and wish.features not in ("auto", "none"):
        hint = "leave --features away: the model's own features are used"
        raise InputError("two networks are named", where="--model and --features", received=wish.features, hint=hint)
