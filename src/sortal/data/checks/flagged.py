"""Images in which a measure is low, both by itself and for their set: what the checks of single images share.

A set of smooth steel sheets is soft everywhere, a set of night pictures is dark everywhere; to list all of them helps
nobody. So a limit never exceeds USUAL times the median of the set, and where the median itself is beyond the limit one
finding says so of the whole set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding
from sortal.data.checks.material import Material, Outcome, Severity, issues
from sortal.data.table import MAX_NAMED_ROWS, finding

USUAL = 0.6
"""Share of the set's median below which an image is unusual in its set."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of single images, in words."""

    code: str
    many: str
    """What the images are, after their number: `are dark: ...`."""
    all: str
    """What is said where the usual image of the set is like that."""
    hint: str


def low_outcome(
    material: Material,
    fault: Fault,
    values: Floats,
    limit: float,
    tell: Callable[[pl.Series], pl.Series],
    *,
    among: NDArray[np.bool_] | None = None,
    usual: float = USUAL,
) -> Outcome:
    """The images whose value (N,) is low; `tell` puts values into words, `among` is a mask of those that count.
    An image is not low where it has `usual` of the set's median or more.

    The score of an issue is how far below the limit it is, 0..1. The body says which limit was used.
    """
    counted = np.isfinite(values) if among is None else among & np.isfinite(values)
    if not counted.any():
        return Outcome()
    median = float(np.median(values[counted]))
    used = min(limit, usual * median)
    low = counted & (values < used)
    found = [] if median >= limit else [finding(f"{fault.code}_set", "info", fault.all, hint=fault.hint)]
    body = {fault.code: {"limit": used, "median": median, "images": int(low.sum())}}
    if not low.any():
        return Outcome(findings=tuple(found), body=body)
    order = np.flatnonzero(low)[np.argsort(values[low], kind="stable")]
    names, chosen = material.table.name_series()[order], values[order]
    frame = issues(fault.code, "warning", names, score=1 - chosen / used, value=tell(pl.Series(chosen)))
    return Outcome(findings=(*found, counted_finding(fault, names, len(material.table))), issues=frame, body=body)


def counted_finding(fault: Fault, names: pl.Series, total: int, severity: Severity = "warning") -> Finding:
    """The finding about these images, worst first."""
    message = f"{names.len():,} of {total:,} images {fault.many}"
    return finding(fault.code, severity, message, names.head(MAX_NAMED_ROWS), fault.hint)


def percent(values: pl.Series) -> pl.Series:
    """0.123 as `12 %`."""
    return (values * 100).round(0).cast(pl.Int64).cast(pl.String) + " %"


def joined(*outcomes: Outcome) -> Outcome:
    """Several outcomes of one check as one."""
    return Outcome(
        findings=tuple(found for outcome in outcomes for found in outcome.findings),
        issues=pl.concat([outcome.issues for outcome in outcomes]),
        tables={name: table for outcome in outcomes for name, table in outcome.tables.items()},
        body={key: value for outcome in outcomes for key, value in outcome.body.items()},
    )
