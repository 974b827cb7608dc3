"""The three things most worth doing after an audit, in plain words, with the command to type where there is one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sortal.core.errors import IMAGE_ERROR_CODES
from sortal.core.report import Finding
from sortal.data.checks.material import Outcome
from sortal.data.table import ImageTable
from sortal.evaluate.pages.audit_view import title_of

MOST = 3
PLAN = "{plan}"
"""Stands for the path of the audit in a command until that is known."""

SEVERE = 10.0
"""What comes on top where something is wrong for certain."""
_WEIGHT = {
    "leaks": 12.0,
    "repair": 4.0,
    "decide": 3.0,
    "label": 5.0,
    "collect": 1.0,
    "shortcut": 2.0,
    "together": 0.5,
    "look": 0.8,
}
"""What an affected image, or class, is worth doing something about: a leak makes every number wrong, a blurred image is
one image less."""
_LOOKED_AT = ("exposure", "blur", "information", "shape")


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing to do. `command` is empty where there is nothing to type; `value` ranks it, 0 and more."""

    text: str
    command: str
    value: float


def worth_doing(
    findings: Sequence[Finding], issues: pl.DataFrame, table: ImageTable, outcomes: Mapping[str, Outcome]
) -> tuple[Action, ...]:
    """Up to MOST actions, the most valuable first."""
    candidates = [
        *_split_anew(table, outcomes),
        *_repair(issues, table, outcomes),
        *_correct(issues, table),
        *_label(table),
        *_second_class(table),
        *_decide(issues, table),
        *_shortcut(findings),
        *_collect(findings, table),
        *_keep_together(table, outcomes),
        *_look(table, outcomes),
    ]
    return tuple(sorted(candidates, key=lambda action: -action.value)[:MOST])


def _split_anew(table: ImageTable, outcomes: Mapping[str, Outcome]) -> Iterator[Action]:
    if "leaks" not in outcomes:
        return
    issues = outcomes["leaks"].issues
    certain = issues.filter(pl.col("severity") == "error")["name"].n_unique()
    likely = issues["name"].n_unique() - certain
    if not certain + likely:
        return
    parts = [f"{_images(certain)} in one split are, or show, what is in another one too"] if certain else []
    parts += [f"{_images(likely)} look as if they were taken together with some of another split"] if likely else []
    text = f"Divide the images anew: {', and '.join(parts)}, so results on them are better than they will be."
    command = _typed(table, "sortal split", "--ignore-splits --out split.csv")
    value = _value("leaks", certain, len(table)) + _value("together", likely, len(table))
    yield Action(text=text, command=command, value=value + SEVERE * bool(certain))


def _repair(issues: pl.DataFrame, table: ImageTable, outcomes: Mapping[str, Outcome]) -> Iterator[Action]:
    broken = _to_repair(outcomes, "readable")
    copies = (_to_repair(outcomes, "duplicates") | _to_repair(outcomes, "leaks")) - broken
    wrong = set(issues.filter(pl.col("do") == "relabel")["name"])
    parts = [
        f"{len(names):,} {one if len(names) == 1 else many}"
        for names, one, many in (
            (broken, "file cannot be used", "files cannot be used"),
            (copies, "image is a copy of another", "images are copies of others"),
            (wrong, "label looks wrong", "labels look wrong"),
        )
        if names
    ]
    if parts:
        text = (
            f"Repair what can be repaired: {', '.join(parts)}. The plan can be read and edited, nothing is deleted, "
            "and all of it can be undone."
        )
        command = _typed(table, "sortal fix", f"--plan {PLAN}")
        value = _value("repair", len(broken | copies | wrong), len(table))
        yield Action(text=text, command=command, value=value + SEVERE * bool(broken))


def _correct(issues: pl.DataFrame, table: ImageTable) -> Iterator[Action]:
    """Rows that a reader has left out: no repair can bring back what they name."""
    rejected = table.rejected.filter(~pl.col("code").is_in(list(IMAGE_ERROR_CODES)))
    if not rejected.height or not issues["name"].is_in(rejected["name"].implode()).any():
        return
    why = rejected["reason"].value_counts(sort=True)["reason"][0]
    rows = "1 row was" if rejected.height == 1 else f"{rejected.height:,} rows were"
    text = f"Correct the source, or bring back what it names: {rows} left out ({why}; {rejected['name'][0]})."
    total = len(table) + table.rejected.height
    yield Action(text=text, command="", value=_value("repair", rejected.height, total))


def _label(table: ImageTable) -> Iterator[Action]:
    missing = int((table.label_array() < 0).sum())
    if missing:
        whose = "none of them has one" if missing == len(table) else f"{_images(missing)} have none"
        text = f"Give the images labels: {whose}. One folder a class, or a table with the columns path and label."
        yield Action(text=text, command="", value=_value("label", missing, len(table)))


def _second_class(table: ImageTable) -> Iterator[Action]:
    filled = table.frame["label"].filter(table.frame["label"] >= 0).unique()
    if filled.len() == 1:
        name = table.labels.names[filled[0]]
        text = f"Add images of another class: there is {name} only, and a classifier tells at least two apart."
        yield Action(text=text, command="", value=SEVERE)


def _decide(issues: pl.DataFrame, table: ImageTable) -> Iterator[Action]:
    odd = issues.filter(pl.col("code") == "conflicting_labels")["name"].n_unique()
    if odd:
        shows = "shows: it is there" if odd == 1 else "show: they are there"
        text = f"Decide what {_images(odd)} {shows} more than once, under different labels."
        yield Action(text=text, command="", value=SEVERE + _value("decide", odd, len(table)))


def _shortcut(findings: Sequence[Finding]) -> Iterator[Action]:
    for found in findings:
        if found.code == "shortcut":
            text = f"Even out how images were made: {_decapitalized(found.message)}. {_sentence(found.hint)}"
            yield Action(text=text, command="", value=_WEIGHT["shortcut"] * 0.3)
            return


def _collect(findings: Sequence[Finding], table: ImageTable) -> Iterator[Action]:
    few = next((found for found in findings if found.code in ("rare_class", "rare_classes") and found.rows), None)
    few = few or next((found for found in findings if found.code == "few_images" and found.rows), None)
    if few is None:
        return
    counts = dict(table.frame["label"].value_counts().rows())
    have = {name: counts.get(index, 0) for index, name in enumerate(table.labels.names)}
    known = sorted((name for name in few.rows if name in have), key=lambda name: have[name])
    if known:
        shown = ", ".join(f"{name} ({have[name]:,})" for name in known[:3])
        rest = len(known) - 3
        more = f" and {rest:,} more {'class' if rest == 1 else 'classes'}" if rest > 0 else ""
        scarce = len(known) / max(1, len(have)) * (1.0 if few.code.startswith("rare") else 0.1)
        yield Action(
            text=f"Collect images of {shown}{more}: they have the fewest to learn from.",
            command="",
            value=_WEIGHT["collect"] * scarce,
        )


def _keep_together(table: ImageTable, outcomes: Mapping[str, Outcome]) -> Iterator[Action]:
    taken = _names(outcomes, "bursts")
    if taken and not (len(table.split_rows("val")) or len(table.split_rows("test"))):
        text = f"Keep pictures that were taken together on one side of the split: {_images(taken)} are in bursts."
        command = _typed(table, "sortal split", "--out split.csv")
        yield Action(text=text, command=command, value=_value("together", taken, len(table)))


def _look(table: ImageTable, outcomes: Mapping[str, Outcome]) -> Iterator[Action]:
    found = [outcomes[check].issues.select("name", "code", "severity") for check in _LOOKED_AT if check in outcomes]
    issues = (
        pl.concat(found)
        if found
        else pl.DataFrame(schema={"name": pl.String, "code": pl.String, "severity": pl.String})
    )
    issues = issues.filter(pl.col("severity") != "info")
    if issues.height:
        counted = issues.group_by("code").agg(pl.col("name").n_unique()).sort("name", "code", descending=[True, False])
        listed = ", ".join(f"{title_of(code).lower()} ({count:,})" for code, count in counted.head(4).iter_rows())
        affected = issues["name"].n_unique()
        text = f"Look at {_images(affected)} and leave out or take again what shows too little: {listed}."
        yield Action(text=text, command="", value=_value("look", affected, len(table)))


def _names(outcomes: Mapping[str, Outcome], check: str) -> int:
    return outcomes[check].issues["name"].n_unique() if check in outcomes else 0


def _to_repair(outcomes: Mapping[str, Outcome], check: str) -> set[str]:
    found = outcomes[check].issues if check in outcomes else None
    return set() if found is None else set(found.filter(pl.col("do").is_in(["quarantine", "drop"]))["name"])


def _value(kind: str, affected: int, total: int) -> float:
    return round(_WEIGHT[kind] * affected / max(1, total), 6)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _typed(table: ImageTable, command: str, rest: str) -> str:
    """The command about this source; empty where the source is nothing that can be typed."""
    return f"{command} {shlex.quote(table.source)} {rest}" if Path(table.source).exists() else ""


def _decapitalized(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def _sentence(text: str | None) -> str:
    return "" if not text else f"{text[:1].upper()}{text[1:].rstrip('.')}."
