"""Leaks: what belongs together and lies in several splits, so that results look better than they are."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.report import Finding
from sortal.data.checks.material import ISSUES, Material, Outcome, Severity, issues
from sortal.data.checks.pairs import related_table
from sortal.data.leaks import KINDS, Optimism, leaked_rows, leaks_of, optimism, optimism_table, words_of
from sortal.data.table import MAX_NAMED_ROWS, SPLITS, ImageTable, finding
from sortal.data.units import BURST, NEAR

HINT = "divide anew: sortal split --ignore-splits; or let the copies be quarantined"

_BLOCK = 1024
_MOST_ROWS = 20_000


def check(material: Material) -> Outcome:
    """A finding and issues for each kind of leak, and by how much they flatter where there are features."""
    table = related_table(material)
    if sum(bool(len(table.split_rows(name))) for name in SPLITS) < 2:
        return Outcome(body={"splits": False})
    flags = leaks_of(table)
    found = {link: rows for link, rows in flags.items() if rows.any()}
    measured = _measured(material, table)
    return Outcome(
        findings=(*(_finding(table, link, rows) for link, rows in found.items()), *_flattering(measured)),
        issues=pl.concat([pl.DataFrame(schema=ISSUES), *(_issues(table, link, rows) for link, rows in found.items())]),
        tables={} if measured is None else {"leaks": optimism_table(measured)},
        body={
            "splits": True,
            "leaks": {KINDS[link][0]: int(rows.sum()) for link, rows in flags.items()},
            "optimism_points": None if measured is None else measured.points,
        },
    )


def _finding(table: ImageTable, link: str, rows: NDArray[np.bool_]) -> Finding:
    names = table.name_series().filter(pl.Series(rows)).head(MAX_NAMED_ROWS)
    return finding(KINDS[link][0], _severity(link), words_of(table, link, rows), names, HINT)


def _issues(table: ImageTable, link: str, rows: NDArray[np.bool_]) -> pl.DataFrame:
    """Each row with a companion in another split. A copy in train of what is judged is what a repair takes away."""
    frame = table.frame.select("split", key=pl.col(link).cast(pl.String)).with_columns(name=table.name_series())
    frame = frame.filter(pl.Series(rows))
    order = pl.col("split").replace_strict(list(SPLITS), [0, 1, 2], return_dtype=pl.Int64)
    ends = (
        frame.sort(order, maintain_order=True)
        .group_by("key", maintain_order=True)
        .agg(first=pl.col("name").first(), first_split=pl.col("split").first(), last=pl.col("name").last())
    )
    joined = frame.join(ends, on="key", how="left", maintain_order="left")
    other = pl.when(pl.col("split") == pl.col("first_split")).then("last").otherwise("first")
    joined = joined.with_columns(other=other, value=pl.lit("in ") + pl.col("split"))
    copies = (pl.col("split") == "train") & pl.lit(link in ("digest", NEAR))
    parts = []
    for chosen, do in ((joined.filter(copies), "quarantine"), (joined.filter(~copies), None)):
        parts.append(
            issues(KINDS[link][0], _severity(link), chosen["name"], other=chosen["other"], value=chosen["value"], do=do)
        )
    return pl.concat(parts)


def _severity(link: str) -> Severity:
    """That pictures were taken together is read from how alike they are; the others are facts."""
    return "warning" if link == BURST else "error"


def _measured(material: Material, table: ImageTable) -> Optimism | None:
    """How often the nearest training image gives the label of a judged one, for leaked ones and the others."""
    features, labels = material.features, table.label_array()
    leaked = leaked_rows(table)
    train = np.flatnonzero((labels >= 0) & (table.frame["split"] == "train").fill_null(value=False).to_numpy())
    name = "test" if len(table.split_rows("test")) else "val"
    judged = table.split_rows(name)
    judged = judged[labels[judged] >= 0]
    if features is None or not leaked[judged].any() or not len(train):
        return None
    generator = np.random.Generator(np.random.Philox(key=0))
    train, judged = (_sample(rows, generator) for rows in (train, judged))
    answers = np.concatenate(
        [
            train[np.argmax(features[judged[start : start + _BLOCK]] @ features[train].T, axis=1)]
            for start in range(0, len(judged), _BLOCK)
        ]
    )
    return optimism(labels[answers] == labels[judged], leaked[judged])


def _sample(rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= _MOST_ROWS else np.sort(generator.choice(rows, _MOST_ROWS, replace=False))


def _flattering(measured: Optimism | None) -> list[Finding]:
    if measured is None or measured.points is None:
        return []
    message = (
        f"told by their nearest training image, {measured.leaked.accuracy:.1%} of the images that leak are right and "
        f"{measured.clean.accuracy:.1%} of the others: leaks flatter by {measured.points:.1f} points"
    )
    return [finding("leaks_flatter", "error" if measured.points >= 1 else "warning", message, [], HINT)]
