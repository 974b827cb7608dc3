"""What a check receives, what it returns, and the limits it judges by.

Shapes: N rows of the table, D numbers of a feature, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding, Table
from sortal.data.survey import Survey
from sortal.data.table import ImageTable

Severity = Literal["info", "warning", "error"]

ISSUES: dict[str, pl.DataType] = {
    "name": pl.String(),
    "code": pl.String(),
    "severity": pl.String(),
    "score": pl.Float64(),
    "other": pl.String(),
    "value": pl.String(),
    "do": pl.String(),
    "to": pl.String(),
}
"""Columns of `Outcome.issues`, one row for each image and issue: its row name, the code, how bad, how sure or how
strong (0..1, null where that has no meaning), the image it is compared with, what was measured or suggested in words,
and what a repair would do (`quarantine`, `relabel`, `drop`; null: nothing by itself) with its argument."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From where on something is an issue. Shares and levels are 0..1, counts are images."""

    dark: float = 0.32
    """An image whose 99th percentile of brightness is below this is dark."""
    light: float = 0.9
    """An image whose 5th percentile of brightness is above this is light."""
    blurry: float = 0.38
    """Sharpness score below which an image is blurry: photographs have 0.5 to 0.75, shaken ones below 0.4."""
    low_information: float = 0.3
    """Entropy score below which an image shows next to nothing."""
    aspect: float = 0.35
    """Shorter over longer side below which the shape is odd."""
    size_ratio: float = 10.0
    """An image is odd in size where its area differs by this factor from the median."""
    label_error: float = 0.5
    """Confidence from which a suspected label error is listed."""
    rare: int = 50
    """Classes with fewer images are rare."""
    wanted: int = 500
    """Images a class below which more are recommended."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that checks look at. `table` is scanned: unreadable rows are in `table.rejected`."""

    table: ImageTable
    survey: Survey
    """Aligned with the rows of the table."""
    features: NDArray[np.float32] | None = None
    """(N, D) of unit length, or None where there is no network at hand."""
    probabilities: NDArray[np.float32] | None = None
    """(N, K) of models that never saw the row's own unit (out of fold); rows of NaN where there are none."""
    limits: Limits = field(default_factory=Limits)
    known: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What several checks share, found by the first of them."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Findings in words, the images behind them, tables for the page, and plain JSON values for `audit.json`."""

    findings: tuple[Finding, ...] = ()
    issues: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ISSUES))
    tables: Mapping[str, Table] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


def issues(
    code: str,
    severity: Severity,
    names: Sequence[str] | pl.Series,
    *,
    score: Iterable[float | None] | None = None,
    other: Iterable[str | None] | None = None,
    value: Iterable[str | None] | None = None,
    do: str | None = None,
    to: Iterable[str | None] | None = None,
) -> pl.DataFrame:
    """A frame of `ISSUES`; what is not given is null."""
    given = {"name": names, "score": score, "other": other, "value": value, "to": to}
    frame = pl.DataFrame({key: pl.Series(key, list(v), dtype=ISSUES[key]) for key, v in given.items() if v is not None})
    absent = [pl.lit(None, dtype=ISSUES[key]).alias(key) for key, v in given.items() if v is None]
    constant = [pl.lit(code).alias("code"), pl.lit(severity).alias("severity"), pl.lit(do, dtype=pl.String).alias("do")]
    return frame.with_columns(*absent, *constant).select(pl.col(name).cast(kind) for name, kind in ISSUES.items())
