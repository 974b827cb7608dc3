"""From the issues of an audit to a plan: one action an image, applied at once only where the audit is certain."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from sortal.data.repair.moves import content_digest
from sortal.data.repair.plan import Drop, OfImage, Plan, Quarantine, Relabel
from sortal.data.repair.resolve import named_classes
from sortal.data.table import ImageTable

CERTAIN = 0.9
"""Confidence from which a suggestion is set to be applied."""

_ORDER = {"quarantine": 0, "drop": 1, "relabel": 2}


def plan_from(issues: pl.DataFrame, table: ImageTable, *, listing: str | None = None, certain: float = CERTAIN) -> Plan:
    """The plan behind `issues` (columns of `data.checks.material.ISSUES`); rows without `do` are not part of it.

    An image with several issues gets one action: out of the data set before relabeling, and the surest of its kind. An
    image that is out only for being like others stays where none of those would be left. What is as sure as `certain`,
    or has no score (a fact, not an estimate), is set to be applied; the rest is for a person to decide. Images without
    a digest in the table are read for one.
    """
    asked = issues.filter(pl.col("do").is_in(list(_ORDER)))
    scored = asked.with_columns(pl.col("score").fill_null(1.0).fill_nan(0.0).clip(0.0, 1.0).alias("sure"))
    out = pl.col("do") != "relabel"
    scored = scored.filter(~(out & pl.col("name").is_in(pl.Series(_spared(scored.filter(out))).implode())))
    ranked = scored.with_columns(pl.col("do").replace_strict(_ORDER, return_dtype=pl.Int64).alias("rank"))
    ranked = ranked.sort("rank", "sure", "code", descending=[False, True, False], maintain_order=True)
    words = pl.concat_str([pl.col("code"), pl.col("value")], separator=": ", ignore_nulls=True)
    chosen = ranked.with_columns(words.alias("words")).group_by("name", maintain_order=True)
    first = chosen.agg(
        pl.col("do", "code", "to", "sure", "other").first(), pl.col("words").unique(maintain_order=True).str.join("; ")
    )
    known = named_classes(table).with_columns(digest=table.frame["digest"])
    rows = first.join(known, on="name", how="left", maintain_order="left")
    actions = [_action(row, certain, table) for row in rows.iter_rows(named=True) if _possible(row)]
    return Plan(
        source=table.source,
        listing_digest=listing or table.listing_digest,
        content_digest=None if table.frame["digest"].null_count() else table.content_digest,
        actions=tuple(actions),
    )


def _spared(out: pl.DataFrame) -> list[str]:
    """Images that stay in the data set although something asks to take them out: the last of their copies.

    Checks look at pairs from both sides (a leak takes the copy in train, a duplicate the later one), so together they
    may ask for every copy. Errors are heard first.
    """
    gone = set(out.filter(pl.col("other").is_null())["name"])
    ordered = out.filter(pl.col("other").is_not_null()).sort(
        pl.col("severity") != "error", -pl.col("sure"), maintain_order=True
    )
    asked: dict[str, list[str]] = {}
    for name, other in ordered.select("name", "other").iter_rows():
        asked.setdefault(name, []).append(other)
    kept: set[str] = set()
    spared = []
    for name, others in asked.items():
        staying = next((other for other in others if other not in gone), None)
        if name in gone:
            continue
        if name in kept or staying is None:
            spared.append(name)
        else:
            gone.add(name)
            kept.add(staying)
    return spared


def _possible(row: dict[str, object]) -> bool:
    return row["do"] != "relabel" or bool(row["to"] and row["class"] and row["to"] != row["class"])


def _action(row: dict[str, object], certain: float, table: ImageTable) -> OfImage:
    sure = float(row["sure"])  # type: ignore[arg-type]
    why = str(row["words"]) + (f" (see {row['other']})" if row["other"] else "")
    shared = {
        "image": row["name"],
        "digest": row["digest"] or _digest(table, str(row["name"])),
        "code": row["code"],
        "why": why,
        "confidence": round(sure, 4),
        "apply": sure >= certain,
    }
    if row["do"] == "relabel":
        return Relabel.model_validate({**shared, "from": row["class"], "to": row["to"]})
    return (Quarantine if row["do"] == "quarantine" else Drop).model_validate(shared)


def _digest(table: ImageTable, name: str) -> str | None:
    """Of a file that was left out because it cannot be opened as an image; None where it cannot even be read."""
    path = (table.root or Path()) / name
    try:
        return content_digest(path) if os.path.isfile(path) else None  # noqa: PTH113  also for names no Path takes
    except OSError:
        return None
