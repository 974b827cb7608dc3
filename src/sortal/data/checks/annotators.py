"""Annotators and identifiers: who labeled what, do they agree, may they label at all, and are item codes valid?

Looks at columns that a table brought along: `annotator`, `role`, `labeled_at`, `agreement`, second readings in columns
of their own (`reader_1`, `rater_b`, `label_by_mia`: class names), and item codes (`gtin`, `gs1`, `barcode`,
`identifier`). The same content labeled by several annotators counts as several readings. A `required_role` is said in
`classes.yaml` beside the data. Sets without such columns have no finding.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import polars as pl

from sortal.core.errors import DataError
from sortal.core.report import Finding, Table
from sortal.data.agreement import Agreement, cohen_kappa, fleiss_kappa
from sortal.data.checks.codes import check_codes
from sortal.data.checks.material import Material, Outcome, issues
from sortal.data.definitions import find_definitions
from sortal.data.table import ImageTable, finding

READER = re.compile(r"(?i)(?:reader|rater|label_by|read_by)[ _-]?(.+)")
LOW_KAPPA = 0.6
"""Agreement below this is too weak to learn from: "moderate" at best on the usual scale (Landis and Koch 1977)."""
LOW_AGREEMENT = 0.7
"""Of a column `agreement` (share of readers who gave the label)."""
MOST_PAIRS = 45

READINGS = {"item": pl.Int64(), "reader": pl.String(), "label": pl.Int64(), "name": pl.String()}


def check(material: Material) -> Outcome:
    """Findings `readers_agree`, `readers_disagree`, `low_agreement`, `wrong_role`, `labeled_at_odd`, `invalid_code`;
    issues `readers_disagree`, `low_agreement`, `wrong_role`, `invalid_code`; tables `readers`, `annotators`."""
    table = material.table
    parts = [
        _agreement(table, readings(table)),
        _told_agreement(table),
        _roles(table),
        _times(table),
        check_codes(table),
    ]
    if "annotator" in table.frame.columns:
        parts.append(Outcome(tables={"annotators": _annotators(table)}))
    return Outcome(
        findings=tuple(found for part in parts for found in part.findings),
        issues=pl.concat([part.issues for part in parts]),
        tables={name: value for part in parts for name, value in part.tables.items()},
        body={key: value for part in parts for key, value in part.body.items()},
    )


def readings(table: ImageTable) -> pl.DataFrame:
    """Frame of READINGS: who put which item into which class, for items that were read more than once.

    An item is a row (readings in columns of their own) or a content (its rows, one annotator each).
    """
    found = pl.concat([_in_columns(table), _in_rows(table)]).unique(
        ["item", "reader"], keep="first", maintain_order=True
    )
    return found.filter(pl.len().over("item") >= 2)


def check_roles(table: ImageTable, required: str) -> pl.DataFrame:
    """Issues `wrong_role` of labeled rows whose column `role` is not `required`, compared without regard to case."""
    role = (
        pl.col("role").cast(pl.String).str.strip_chars() if "role" in table.frame.columns else pl.lit(None, pl.String)
    )
    named = table.frame.select("label", role.alias("role")).with_columns(table.name_series().alias("name"))
    other = named.filter((pl.col("label") >= 0) & ~pl.col("role").str.to_lowercase().eq_missing(required.lower()))
    words = other["role"].fill_null("no role given")
    return issues("wrong_role", "error", other["name"], value=words)


def _in_columns(table: ImageTable) -> pl.DataFrame:
    known = table.labels.lookup()
    frames = []
    for column in table.frame.columns:
        found = READER.fullmatch(column)
        if found is None or column.startswith("_"):
            continue
        label = (
            pl.col(column).cast(pl.String).str.strip_chars().replace_strict(known, default=None, return_dtype=pl.Int64)
        )
        frames.append(
            table.frame.select(label.alias("label"))
            .with_columns(table.name_series().alias("name"), pl.lit(found[1]).alias("reader"))
            .with_row_index("item")
            .filter(pl.col("label").is_not_null())
            .select(pl.col(name).cast(kind) for name, kind in READINGS.items())
        )
    return pl.concat([pl.DataFrame(schema=READINGS), *frames])


def _in_rows(table: ImageTable) -> pl.DataFrame:
    if "annotator" not in table.frame.columns or table.frame["digest"].null_count() == len(table):
        return pl.DataFrame(schema=READINGS)
    frame = table.frame.with_columns(table.name_series().alias("name"))
    frame = frame.filter((pl.col("label") >= 0) & pl.col("annotator").is_not_null() & pl.col("digest").is_not_null())
    item = -1 - pl.struct("digest", "region").rank("dense").cast(pl.Int64)
    frame = frame.select(item.alias("item"), pl.col("annotator").cast(pl.String).alias("reader"), "label", "name")
    return frame.select(pl.col(name).cast(kind) for name, kind in READINGS.items())


def _agreement(table: ImageTable, read: pl.DataFrame) -> Outcome:
    if not read.height:
        return Outcome()
    classes = len(table.labels)
    rows = list(_pairs(read, classes))
    overall = rows[0][1] if len(rows) == 1 else fleiss_kappa(_counts(read, classes))
    cells = [(name, *_cells(one)) for name, one in rows]
    if len(rows) != 1:
        cells.insert(0, ("all readers", *_cells(overall)))
    split = read.filter(pl.col("label").n_unique().over("item") > 1)
    named = split.with_columns(pl.col("label").replace_strict(dict(enumerate(table.labels.names))).alias("class"))
    told = named.group_by("item", maintain_order=True).agg(
        pl.col("name").first(), (pl.col("reader") + ": " + pl.col("class")).str.join(", ").alias("value")
    )
    return Outcome(
        findings=(_told(overall, told["name"]),),
        issues=issues("readers_disagree", "warning", told["name"], value=told["value"]),
        tables={"readers": Table(columns=("readers", "images", "same", "kappa", "low", "high"), rows=tuple(cells))},
        body={"kappa": overall.kappa, "read_twice": overall.items},
    )


def _pairs(read: pl.DataFrame, classes: int) -> Iterator[tuple[str, Agreement]]:
    """Cohen's kappa of each two readers who read the same items, those with most items in common first."""
    readers = read["reader"].unique().sort().to_list()
    wide = read.pivot(on="reader", index="item", values="label")
    both = []
    for one, other in itertools.combinations(readers[:200], 2):
        common = wide.select(one, other).drop_nulls()
        if common.height:
            both.append((common.height, one, other, common))
    for _, one, other, common in sorted(both, key=lambda row: (-row[0], row[1], row[2]))[:MOST_PAIRS]:
        yield f"{one} and {other}", cohen_kappa(common[one].to_numpy(), common[other].to_numpy(), classes)


def _counts(read: pl.DataFrame, classes: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    item = read["item"].rank("dense").cast(pl.Int64).to_numpy() - 1
    counts = np.zeros((int(item.max()) + 1, classes), np.int64)
    np.add.at(counts, (item, read["label"].to_numpy()), 1)
    return counts


def _told(overall: Agreement, disagreed: pl.Series) -> Finding:
    kappa = "" if overall.kappa is None else f"; kappa {overall.kappa:.2f} ({overall.low:.2f} to {overall.high:.2f})"
    message = f"{overall.items:,} images were read more than once: {overall.same:.0%} of readings agree{kappa}"
    low = overall.kappa is not None and overall.kappa < LOW_KAPPA
    if disagreed.len():
        message += f", {disagreed.len():,} have different labels"
    hint = "write down how the classes differ (classes.yaml), and settle these images together" if low else None
    code, severity = ("readers_disagree", "warning") if low else ("readers_agree", "info")
    return finding(code, severity, message, disagreed.head(1000), hint)


def _cells(one: Agreement) -> tuple[int | float | None, ...]:
    rounded = (None if value is None else round(value, 4) for value in (one.kappa, one.low, one.high))
    return one.items, round(one.same, 4), *rounded


def _told_agreement(table: ImageTable) -> Outcome:
    if "agreement" not in table.frame.columns:
        return Outcome()
    share = table.frame["agreement"].cast(pl.Float64, strict=False)
    low = (
        table.name_series().to_frame("name").with_columns(share.alias("share")).filter(pl.col("share") < LOW_AGREEMENT)
    )
    if not low.height:
        return Outcome()
    message = f"{low.height:,} labels were given by fewer than {LOW_AGREEMENT:.0%} of their readers"
    hint = "settle them, or give them less weight (column weight)"
    return Outcome(
        findings=(finding("low_agreement", "warning", message, low["name"].head(1000), hint),),
        issues=issues(
            "low_agreement",
            "warning",
            low["name"],
            value=low.select((pl.col("share") * 100).round(0).cast(pl.String) + " %").to_series(),
        ),
    )


def _roles(table: ImageTable) -> Outcome:
    try:
        definitions = find_definitions(table.root)
    except DataError:  # told by the check of labels, which reads the same file
        return Outcome()
    if definitions is None or definitions.required_role is None:
        return Outcome()
    wrong = check_roles(table, definitions.required_role)
    if not wrong.height:
        return Outcome()
    message = f"{wrong.height:,} labels are not by the role {definitions.required_role!r} that is required here"
    hint = "have them read by that role, and say so in the column role"
    return Outcome(findings=(finding("wrong_role", "error", message, wrong["name"].head(1000), hint),), issues=wrong)


def _times(table: ImageTable) -> Outcome:
    if "labeled_at" not in table.frame.columns:
        return Outcome()
    column = table.frame["labeled_at"]
    parsed = column if column.dtype.is_temporal() else column.cast(pl.String).str.to_datetime(strict=False)
    odd = table.name_series().filter(parsed.is_null() & column.is_not_null())
    if not odd.len():
        return Outcome()
    message = f"{odd.len():,} entries of labeled_at are no date that is understood"
    return Outcome(findings=(finding("labeled_at_odd", "info", message, odd.head(1000), "write 2026-03-31T14:05"),))


def _annotators(table: ImageTable) -> Table:
    has_role = "role" in table.frame.columns
    keys = ["annotator", *(["role"] if has_role else [])]
    counted = (
        table.frame.filter(pl.col("label") >= 0)
        .group_by(pl.col(key).cast(pl.String) for key in keys)
        .agg(pl.len().alias("images"), pl.col("label").n_unique().alias("classes"))
        .sort("images", *keys, descending=[True, *[False] * len(keys)])
        .head(200)
    )
    return Table(columns=(*keys, "images", "classes"), rows=tuple(counted.iter_rows()))
