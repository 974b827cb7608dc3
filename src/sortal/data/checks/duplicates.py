"""Duplicates: pictures that are there more than once, to the byte or nearly, and those with different labels.

The first copy of each stays; what a repair would do with the others is quarantine, where their labels agree. Which of
two labels is right is for a person to say.
"""

from __future__ import annotations

import polars as pl

from sortal.core.report import Finding, Table
from sortal.data.checks.material import ISSUES, Material, Outcome, issues
from sortal.data.checks.pairs import near_of, near_pairs
from sortal.data.table import MAX_NAMED_ROWS, finding

DOUBTFUL = 0.8
"""Below what a plan of repair sets to be applied (`data.repair.suggest.CERTAIN`)."""
MOST_SHOWN = 200
"""Pairs in the table of the page."""


def check(material: Material) -> Outcome:
    """Findings and issues `exact_duplicates`, `near_duplicates`, `conflicting_labels`; table `duplicates` of pairs."""
    exact, near = _exact(material), near_pairs(material)
    copies, odd = exact.filter("agree"), exact.filter(~pl.col("agree"))
    unlike = near.filter(~pl.col("agree"))
    later = _later_ones(material, copies)
    frames = [
        _issues("exact_duplicates", copies, "identical", do="quarantine"),
        _issues("near_duplicates", later, "nearly the same picture", do="quarantine"),
        _conflicts(odd, material, "identical"),
        _conflicts(_pairs(unlike), material, "nearly the same picture"),
    ]
    return Outcome(
        findings=(*_findings(copies, later), *_conflict_findings(odd, unlike), *near_of(material).findings()),
        issues=pl.concat([pl.DataFrame(schema=ISSUES), *frames]),
        tables={"duplicates": _table(exact, near)} if exact.height or near.height else {},
        body={
            "exact_copies": copies.height,
            "near_copies": later.height,
            "exact_conflicts": odd.height,
            "near_conflicts": unlike.height,
        },
    )


def _exact(material: Material) -> pl.DataFrame:
    """Every further copy of a content (and region): its name, the first copy, and whether all labels agree."""
    table = material.table
    frame = table.frame.select("digest", "region", "label").with_columns(name=table.name_series())
    keys = [pl.col("digest"), pl.col("region")]
    frame = frame.filter(pl.col("digest").is_not_null() & pl.struct(keys).is_duplicated())
    frame = frame.with_columns(
        other=pl.col("name").first().over(keys),
        agree=pl.col("label").filter(pl.col("label") >= 0).n_unique().over(keys) <= 1,
        place=pl.int_range(pl.len()).over(keys),
        label_second=pl.col("label").first().over(keys),
    )
    return frame.filter(pl.col("place") > 0).with_columns(score=pl.lit(1.0))


def _later_ones(material: Material, copies: pl.DataFrame) -> pl.DataFrame:
    """Every row but the first of a cluster whose labels agree, with the first and the best score of its pairs; exact
    copies are told already. A pair that is not certain scores DOUBTFUL at most: a person decides about it."""
    near, table = near_of(material), material.table
    clusters = pl.DataFrame({"row": range(len(table)), "cluster": near.cluster, "label": table.frame["label"]})
    clusters = clusters.with_columns(name=table.name_series()).filter(pl.col("cluster") >= 0)
    known = pl.col("label").filter(pl.col("label") >= 0)
    clusters = clusters.with_columns(
        other=pl.col("name").first().over("cluster"), agree=known.n_unique().over("cluster") <= 1
    )
    doubtful = pl.min_horizontal("score", pl.lit(DOUBTFUL))
    pairs = near.pairs.with_columns(score=pl.when("certain").then("score").otherwise(doubtful))
    sides = pl.concat([pairs.select(row=side, score="score") for side in ("first", "second")])
    best = sides.group_by("row").agg(pl.col("score").max())
    later = clusters.filter((pl.col("row") != pl.col("cluster")) & pl.col("agree"))
    later = later.join(best, on="row", how="left", maintain_order="left")
    return later.filter(~pl.col("name").is_in(copies["name"].implode()))


def _issues(code: str, rows: pl.DataFrame, words: str, *, do: str) -> pl.DataFrame:
    values = [f"{words} as {other}" for other in rows["other"].to_list()]
    return issues(code, "warning", rows["name"], score=rows["score"], other=rows["other"], value=values, do=do)


def _pairs(near: pl.DataFrame) -> pl.DataFrame:
    """Near pairs as copies of the first."""
    return near.select("label_second", name="name_second", other="name", label="label", score="score").rename(
        {"label": "label_second", "label_second": "label"}
    )


def _conflicts(rows: pl.DataFrame, material: Material, words: str) -> pl.DataFrame:
    """One issue for each side of a pair whose labels differ."""
    names = [*material.table.labels.names, "no class"]
    mine = [names[label] for label in rows["label"].to_list()]
    theirs = [names[label] for label in rows["label_second"].to_list()]
    here = [f"{words}: {a} here, {b} there" for a, b in zip(mine, theirs, strict=True)]
    there = [f"{words}: {b} here, {a} there" for a, b in zip(mine, theirs, strict=True)]
    code = "conflicting_labels"
    return pl.concat(
        [
            issues(code, "error", rows["name"], score=rows["score"], other=rows["other"], value=here),
            issues(code, "error", rows["other"], score=rows["score"], other=rows["name"], value=there),
        ]
    ).unique(maintain_order=True)


def _findings(copies: pl.DataFrame, later: pl.DataFrame) -> list[Finding]:
    told = (
        ("exact_duplicates", copies, "exact copies of others"),
        ("near_duplicates", later, "nearly the same picture as others (saved again, cropped, resized, lighter)"),
    )
    hint = "let them be quarantined: copies add nothing, and some classes count for more than they are"
    return [
        finding(code, "warning", f"{rows.height:,} images are {what}", rows["name"].head(MAX_NAMED_ROWS), hint)
        for code, rows, what in told
        if rows.height
    ]


def _conflict_findings(odd: pl.DataFrame, unlike: pl.DataFrame) -> list[Finding]:
    names = [*odd["name"].to_list(), *unlike["name_second"].to_list()]
    if not names:
        return []
    message = f"{len(names):,} images are there under another label as well ({odd.height:,} of them to the byte)"
    return [finding("conflicting_labels", "error", message, names, "one of the labels is wrong: look at both")]


def _table(exact: pl.DataFrame, near: pl.DataFrame) -> Table:
    """Pairs for the page, those with different labels first."""
    parts = [
        exact.select(first="other", second="name", agree="agree", score="score", bits=pl.lit(0, dtype=pl.Int64)),
        near.select(first="name", second="name_second", agree="agree", score="score", bits="distance"),
    ]
    rows = pl.concat(parts).sort("agree", "score", descending=[False, True], maintain_order=True).head(MOST_SHOWN)
    columns = ("first", "second", "labels agree", "likeness", "differing bits")
    return Table(columns=columns, rows=tuple(rows.iter_rows()))
