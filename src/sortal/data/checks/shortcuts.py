"""Shortcuts: can the class be told without looking at what the image shows?

A naive Bayes model on metadata alone is judged by cross-validation: size, format, mode, border, camera, hour,
the pattern of the file name, folders above the class. Where it is far better than always naming the largest class, a
network may learn how images were taken instead of what is on them. Brightness, contrast, color and sharpness are judged
apart, with the size of the file: they may well belong to the class. A file name that only repeats its class is no clue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.labels import LabelSet
from sortal.core.report import Finding, Table
from sortal.core.shares import wilson
from sortal.data.assign import assign
from sortal.data.checks.material import Material, Outcome
from sortal.data.formats.classes import SPLIT_NAMES
from sortal.data.naive import binned, held_out_answers
from sortal.data.table import ImageTable, finding
from sortal.data.units import units

Ints = NDArray[np.int64]

LOOK = ("brightness", "dark", "light", "contrast", "sharpness", "entropy", "chroma", "bytes")
"""Columns of the survey that say what an image looks like at large; its bytes follow from its detail."""
MADE = ("width", "height", "format", "mode", "frames", "orientation", "border", "quality", "camera")
"""Columns of the survey that say how it was made."""
SKILL = {"made": 0.05, "name": 0.25, "look": 0.6}
"""Share of the largest class's errors that a model must avoid to be suspected. How an image was made should say
nothing; looks may belong to the class (on drawn parts they avoid 0.74, on groceries 0.16)."""
SURE = 0.999
"""Confidence of the interval whose low end must lie above that."""
FOLDS = 5
MOST_ROWS = 20_000
LEAST_ROWS = 60
NAMED = 4

_SPLIT_FOLDER = rf"(?i)^({'|'.join(SPLIT_NAMES)})/"

_WORDS = {
    "taken": "hour when it was taken",
    "prefix": "letters that the file name starts with",
    "digits": "number of digits in the file name",
    "folder": "folder above the class folder",
    "aspect": "shape (width over height)",
}


@dataclass(frozen=True, kw_only=True)
class Skill:
    """How well the class is told from some columns, on N rows held out."""

    columns: tuple[str, ...]
    right: int
    rows: int
    chance: float
    """Share of the largest class."""

    @property
    def accuracy(self) -> float:
        return self.right / self.rows

    @property
    def interval(self) -> tuple[float, float]:
        """At 95 %."""
        low, high = wilson(self.right, self.rows)
        return float(low), float(high)

    def exceeds(self, skill: float) -> bool:
        """Whether more than this share of the largest class's errors is avoided, almost certainly."""
        low, _ = wilson(self.right, self.rows, SURE)
        return float(low) > self.chance + skill * (1.0 - self.chance)


def check(material: Material) -> Outcome:
    """Findings `shortcut` (how images were made), `shortcut_look` and `shortcut_name`; table `shortcuts`."""
    rows = _rows(material.table)
    labels = material.table.label_array()[rows]
    if len(rows) < LEAST_ROWS or len(np.unique(labels)) < 2:
        return Outcome()
    groups = _columns(material, rows)
    folds = assign(labels, units(material.table)[rows], [1 / FOLDS] * FOLDS, np.random.default_rng(0))
    judge = _Judge(labels=labels, folds=folds, classes=len(material.table.labels))
    alone = {
        kind: {name: judge.skill({name: bins}) for name, bins in bins_of.items()} for kind, bins_of in groups.items()
    }
    together = {kind: judge.skill(bins_of) for kind, bins_of in groups.items() if bins_of}
    found = [finding for kind, skill in together.items() for finding in _suspected(kind, skill, alone[kind])]
    return Outcome(
        findings=tuple(found),
        tables={"shortcuts": _table(together, alone)},
        body={
            kind: {
                "accuracy": skill.accuracy,
                "low": skill.interval[0],
                "high": skill.interval[1],
                "chance": skill.chance,
            }
            for kind, skill in together.items()
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Judge:
    labels: Ints
    folds: Ints
    classes: int

    def skill(self, bins: Mapping[str, Ints]) -> Skill:
        answers = held_out_answers(list(bins.values()), self.labels, self.folds, self.classes)
        return Skill(
            columns=tuple(bins),
            right=int((answers == self.labels).sum()),
            rows=len(self.labels),
            chance=float(np.bincount(self.labels).max() / len(self.labels)),
        )


def _rows(table: ImageTable) -> Ints:
    """The labeled rows, or a sample of them."""
    rows = np.flatnonzero(table.label_array() >= 0)
    if len(rows) <= MOST_ROWS:
        return rows
    return np.sort(np.random.Generator(np.random.Philox(key=0)).permutation(rows)[:MOST_ROWS])


def _columns(material: Material, rows: Ints) -> dict[str, dict[str, Ints]]:
    """Binned columns that vary, by kind: `made`, `name`, `look`."""
    survey, given = material.survey.frame[rows], material.table.frame[rows]
    made = {name: survey[name] for name in MADE if name in survey.columns}
    made["aspect"] = (survey["width"] / survey["height"]).rename("aspect")
    made["taken"] = survey["taken"].dt.hour()
    look = {name: survey[name] for name in LOOK}
    groups = {"made": made, "name": _name_columns(given, material.table.labels), "look": look}
    binned_of = {kind: {name: binned(series) for name, series in found.items()} for kind, found in groups.items()}
    return {
        kind: {n: bins for n, bins in found.items() if bins.min() < bins.max()} for kind, found in binned_of.items()
    }


def _name_columns(frame: pl.DataFrame, labels: LabelSet) -> dict[str, pl.Series]:
    """What a file name and the folders above the class folder say, without what repeats the class. With a taxonomy
    folders say nothing: they are the taxonomy."""
    path = pl.coalesce("member", "uri")
    parts = frame.select(
        "label",
        path.str.extract(r"([^/]*)$").str.extract(r"^(.*?)(?:\.[^.]*)?$").alias("stem"),
        path.str.replace(_SPLIT_FOLDER, "").str.extract(r"^(.*)/[^/]*/[^/]*$").alias("folder"),
    )
    columns = ("prefix",) if labels.parents is not None else ("prefix", "folder")
    parts = parts.with_columns(
        pl.col("stem").str.extract(r"^([^\d]*)").alias("prefix"),
        pl.col("stem").str.extract_all(r"\d").list.len().alias("digits"),
    )
    repeats = {
        (label, text)
        for column in columns
        for label, text in parts.select("label", column).unique().iter_rows()
        if text and _repeats(text, labels.names[label])
    }
    found = {}
    for column in columns:
        pairs = pl.DataFrame(
            {"label": [label for label, _ in repeats], column: [text for _, text in repeats]},
            schema={"label": pl.Int64, column: pl.String},
        ).with_columns(pl.lit(value=True).alias("repeats"))
        joined = parts.join(pairs, on=["label", column], how="left", maintain_order="left")
        found[column] = joined.select(
            pl.when(pl.col("repeats").is_null()).then(pl.col(column)).alias(column)
        ).to_series()
    return {**found, "digits": parts["digits"]}


def _repeats(text: str, name: str) -> bool:
    """Whether a piece of a path is its class: the same letters, a part of them, or an abbreviation."""
    wanted = "".join(c for c in name.casefold() if c.isalpha())
    given = [word for word in ("".join(c if c.isalpha() else " " for c in text.casefold())).split() if word]
    whole = "".join(given)
    if not whole or not wanted:
        return False
    alike = whole in wanted or wanted in whole or any(len(word) > 2 and word in wanted for word in given)
    return alike or (whole[0] == wanted[0] and _in_order(whole, wanted))


def _in_order(short: str, long: str) -> bool:
    """Whether the letters of `short` come in `long` in this order."""
    letters = iter(long)
    return all(letter in letters for letter in short)


def _suspected(kind: str, skill: Skill, alone: Mapping[str, Skill]) -> list[Finding]:
    best = max([skill, *alone.values()], key=lambda one: one.right)
    if not best.exceeds(SKILL[kind]):
        return []
    low, high = best.interval
    carried = sorted((s for s in alone.values() if s.exceeds(0.05)), key=lambda s: -s.right)[:NAMED]
    listed = ", ".join(f"{_words(s.columns[0])} {s.accuracy:.0%}" for s in carried)
    message = (
        f"{_SUBJECT[kind]} the class is told in {best.accuracy:.0%} of images held out ({low:.0%} to {high:.0%}), "
        f"naming the largest class in {best.chance:.0%}" + (f"; alone: {listed}" if listed else "")
    )
    code = {"made": "shortcut", "name": "shortcut_name", "look": "shortcut_look"}[kind]
    return [finding(code, "warning" if kind == "made" else "info", message, hint=_HINTS[kind])]


_SUBJECT = {
    "made": "From how an image was made, not what it shows,",
    "name": "From the pattern of file and folder names",
    "look": "From brightness, color, sharpness and bytes of the whole image",
}
_HINTS = {
    "made": "a network may learn this instead of the object: take images of every class in the same way, or bring "
    "sizes and formats to the same, and test on images from elsewhere",
    "name": "classes may come from different cameras or collections: see that every source shows every class",
    "look": "if the objects themselves do not differ in this, vary the light for every class, or augment color",
}


def _words(column: str) -> str:
    return _WORDS.get(column, column)


def _table(together: Mapping[str, Skill], alone: Mapping[str, Mapping[str, Skill]]) -> Table:
    rows = []
    for kind, skill in together.items():
        rows.append(_row(f"{kind}: all", skill))
        rows += [_row(f"{kind}: {_words(name)}", one) for name, one in sorted(alone[kind].items(), key=_by_accuracy)]
    return Table(columns=("columns", "accuracy", "low", "high", "largest class", "images"), rows=tuple(rows))


def _by_accuracy(item: tuple[str, Skill]) -> tuple[float, str]:
    return -item[1].accuracy, item[0]


def _row(name: str, skill: Skill) -> tuple[str, float, float, float, float, int]:
    low, high = skill.interval
    return name, round(skill.accuracy, 4), round(low, 4), round(high, 4), round(skill.chance, 4), skill.rows
