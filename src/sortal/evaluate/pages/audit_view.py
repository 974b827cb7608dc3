"""What the page of an audit shows beside what every page shows: galleries of evidence, class balance, map, all issues.

Two steps with the pictures between them: `pick` chooses which images stand for each issue, and once there are
thumbnails of these, `audit_view` puts everything into words. The template only places them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from sortal.core.report import Finding, Report
from sortal.data.table import SPLITS, ImageTable
from sortal.evaluate.pages.audit_words import HELP, TITLES

SINGLES, SETS, SET_SIZE = 48, 24, 6
"""Images that a gallery shows, sets of images that belong together, images of one set."""
OPEN = 12
"""Items of a section that are shown at once; the others are behind a click."""
ISSUES_EACH, ISSUES_IN_ALL = 1_500, 12_000
"""Rows of the list of issues on the page; all are in findings.csv."""
CLASSES = 1_000
"""Classes in the balance plot, the largest and the smallest."""
_PARTS = (*SPLITS, "no split")


@dataclass(frozen=True, kw_only=True)
class PickedItem:
    """Images that are shown together, by name, and the issue that is about the last of them."""

    names: tuple[str, ...]
    value: str = ""
    to: str = ""
    score: float | None = None
    more: int = 0
    """Further images of the same set that are not shown."""


@dataclass(frozen=True, kw_only=True)
class Picked:
    """What one section is about."""

    code: str
    severity: str
    images: int
    kind: str
    """`suspects` (a label and another one), `sets` (images side by side) or `gallery`."""
    items: tuple[PickedItem, ...]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One image of the page; `uri` is empty where it has no thumbnail."""

    name: str
    uri: str
    file: str
    """The last part of the name."""
    label: str
    split: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is shown together."""

    images: list[Shown]
    lines: list[tuple[str, str]]
    """What is said below: a word and its value; the word may be empty."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One kind of issue with its evidence."""

    id: str
    title: str
    help: str
    severity: str
    images: int
    shown: int
    kind: str
    items: list[Item]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A class in the balance plot; widths are percent of the largest class."""

    name: str
    total: int
    parts: list[tuple[str, int, float]]
    """Split (or `all`), images, width."""


@dataclass(frozen=True, kw_only=True)
class MapView:
    """The embedding map as data for the script, with its sheets of small pictures."""

    title: str
    help: str
    data: dict[str, Any]
    sheets: list[str]
    points: int


@dataclass(frozen=True, kw_only=True)
class AuditView:
    """All of it."""

    actions: list[dict[str, str]]
    sections: list[Section]
    bars: list[Bar]
    splits: list[str]
    left_out_classes: int
    map: MapView | None
    issues: dict[str, Any]
    issues_in_all: int
    issues_shown: int
    anchors: dict[str, str] = field(default_factory=dict)


def pick(issues: pl.DataFrame) -> tuple[Picked, ...]:
    """The images that stand for each code, in the order of the issues."""
    return tuple(_picked(str(key[0]), part) for key, part in issues.group_by("code", maintain_order=True))


def audit_view(
    report: Report,
    issues: pl.DataFrame,
    picked: Sequence[Picked],
    table: ImageTable,
    thumbnails: Mapping[str, str],
    map_view: MapView | None,
) -> AuditView:
    """The view; `thumbnails` are addresses (data URIs) by name of the image."""
    captions = _captions(table, {name for one in picked for item in one.items for name in item.names})
    sections = [_section(one, captions, thumbnails) for one in picked]
    bars = class_bars(table)
    listed = _listed(issues)
    return AuditView(
        actions=[{"text": str(one["text"]), "command": str(one["command"])} for one in report.body.get("actions", [])],
        sections=sections,
        bars=bars if len(bars) <= CLASSES else [*bars[: CLASSES // 2], *bars[-CLASSES // 2 :]],
        splits=[
            split for split in (*SPLITS, "no split") if any(part[0] == split for bar in bars for part in bar.parts)
        ],
        left_out_classes=max(0, len(bars) - CLASSES),
        map=map_view,
        issues=_as_columns(listed),
        issues_in_all=issues.height,
        issues_shown=listed.height,
        anchors=_anchors(report.findings, sections),
    )


def class_bars(table: ImageTable) -> list[Bar]:
    """Images of each class by split, the largest class first."""
    frame = table.frame.select("label", pl.col("split").fill_null("no split")).filter(pl.col("label") >= 0)
    counted = frame.group_by("label", "split").len()
    counts: dict[int, dict[str, int]] = {index: {} for index in range(len(table.labels))}
    for label, split, number in counted.iter_rows():
        counts[label][split] = number
    totals = {label: sum(parts.values()) for label, parts in counts.items()}
    largest = max(totals.values(), default=0) or 1
    order = sorted(counts, key=lambda label: (-totals[label], table.labels.names[label]))
    return [
        Bar(
            name=table.labels.names[label],
            total=totals[label],
            parts=[
                (split, counts[label][split], round(100 * counts[label][split] / largest, 2))
                for split in _PARTS
                if split in counts[label]
            ],
        )
        for label in order
    ]


def title_of(code: str) -> str:
    """A code in words."""
    return TITLES.get(code, code.replace("_", " ").capitalize())


def _picked(code: str, part: pl.DataFrame) -> Picked:
    images = part["name"].n_unique()
    severity = str(part["severity"][0])
    if (part["do"] == "relabel").any():
        kind, items = "suspects", _single_items(part)
    elif part["other"].count():
        kind, items = "sets", _set_items(part)
    else:
        kind, items = "gallery", _single_items(part)
    return Picked(code=code, severity=severity, images=images, kind=kind, items=items)


def _single_items(part: pl.DataFrame) -> tuple[PickedItem, ...]:
    rows = part.head(SINGLES).iter_rows(named=True)
    return tuple(
        PickedItem(names=(row["name"],), value=row["value"] or "", to=row["to"] or "", score=row["score"])
        for row in rows
    )


def _set_items(part: pl.DataFrame) -> tuple[PickedItem, ...]:
    """Images that are compared with the same one stand beside it; a pair that is told from both sides is one set."""
    pairs = part.filter(pl.col("other").is_not_null() & (pl.col("name") != pl.col("other")))
    ends = [pl.min_horizontal("name", "other").alias("_low"), pl.max_horizontal("name", "other").alias("_high")]
    pairs = pairs.with_columns(ends).unique(["_low", "_high"], keep="last", maintain_order=True)
    sets = pairs.group_by("other", maintain_order=True).agg(
        pl.col("name").head(SET_SIZE - 1).alias("names"),
        pl.len().alias("size"),
        pl.col("value").first(),
        pl.col("score").first(),
    )
    return tuple(
        PickedItem(
            names=(row["other"], *row["names"]),
            value=row["value"] or "",
            score=row["score"],
            more=row["size"] - len(row["names"]),
        )
        for row in sets.head(SETS).iter_rows(named=True)
    )


def _section(picked: Picked, captions: Mapping[str, tuple[str, str]], thumbnails: Mapping[str, str]) -> Section:
    items = [_item(picked.kind, one, captions, thumbnails) for one in picked.items]
    return Section(
        id=f"issue-{picked.code}",
        title=title_of(picked.code),
        help=HELP.get(picked.code, ""),
        severity=picked.severity,
        images=picked.images,
        shown=sum(len(one.names) for one in picked.items),
        kind=picked.kind,
        items=items,
    )


def _item(kind: str, item: PickedItem, captions: Mapping[str, tuple[str, str]], thumbnails: Mapping[str, str]) -> Item:
    images = [_shown(name, captions.get(name, ("", "")), thumbnails.get(name, ""), kind) for name in item.names]
    if kind == "suspects":
        given = captions.get(item.names[0], ("", ""))[0]
        sure = "" if item.score is None else f"{item.score:.0%}"
        return Item(images=images, lines=[("given", given), ("suggested", item.to), ("confidence", sure)])
    told_already = kind == "sets" and (item.value.startswith("in ") or item.names[0] in item.value)
    lines = [("", item.value)] if item.value and not told_already else []
    return Item(images=images, lines=[*lines, *([("", f"and {item.more:,} more")] if item.more else [])])


def _shown(name: str, caption: tuple[str, str], uri: str, kind: str) -> Shown:
    label = "" if kind == "suspects" else caption[0]  # the given label is said below
    return Shown(name=name, uri=uri, file=re.split(r"/|::", name)[-1], label=label, split=caption[1])


def _captions(table: ImageTable, names: set[str]) -> dict[str, tuple[str, str]]:
    """Class and split of some rows by name."""
    frame = table.frame.select("label", "split").with_columns(name=table.name_series())
    chosen = frame.filter(pl.col("name").is_in(list(names)))
    classes = [*table.labels.names, "no label"]
    return {name: (classes[label], split or "") for label, split, name in chosen.iter_rows()}


def _listed(issues: pl.DataFrame) -> pl.DataFrame:
    """The issues that fit on the page: the first of each code."""
    return issues.filter(pl.int_range(pl.len()).over("code") < ISSUES_EACH).head(ISSUES_IN_ALL)


def _as_columns(issues: pl.DataFrame) -> dict[str, Any]:
    """Columns for the script: names as they are, codes and severities as numbers."""
    codes = list(dict.fromkeys(issues["code"].to_list()))
    severity = dict(zip(issues["code"], issues["severity"], strict=True))
    place = {code: number for number, code in enumerate(codes)}
    return {
        "codes": [[title_of(code), severity[code]] for code in codes],
        "code": [place[code] for code in issues["code"]],
        "name": issues["name"].to_list(),
        "other": [text or "" for text in issues["other"]],
        "value": [text or "" for text in issues["value"]],
        "do": [
            " ".join(filter(None, (do, "→" if to else "", to)))
            for do, to in zip(issues["do"], issues["to"], strict=True)
        ],
        "score": [None if score is None else round(score, 3) for score in issues["score"]],
    }


def _anchors(findings: Sequence[Finding], sections: Sequence[Section]) -> dict[str, str]:
    """Where on the page the images behind a finding are, by its code; some issues are called in the singular."""
    known = {section.id for section in sections}
    found = {}
    for code in {one.code for one in findings}:
        for candidate in (f"issue-{code}", f"issue-{code.removesuffix('s')}"):
            if candidate in known:
                found[code] = candidate
    return found
