"""From class texts to a LabelSet and indices: natural order, tidy names, and what is odd about the classes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.report import Finding
from sortal.data.table import SPLITS, UNKNOWN, ImageTable, finding

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Spellings of the splits, compared without regard to case."""


LABEL_CODES = ("case_collision", "one_class", "single_image_class", "class_not_in_train", "class_missing_in_split")
"""What `label_findings` may find; made anew whenever labels, rows or splits change."""


def natural_key(text: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sorts `class2` before `class10`, without regard to case; ties by code point."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return tuple((0, int(part)) if part.isdecimal() and part.isascii() else (1, part) for part in parts), text


def tidy(text: str) -> str:
    """A class name in Unicode NFC without white space around it, so that macOS folders and tables agree."""
    return unicodedata.normalize("NFC", text).strip()


def encode(
    texts: pl.Series, order: Iterable[str] | None = None, **fields: dict[str, str]
) -> tuple[LabelSet, pl.Series]:
    """Class texts (null or empty = unknown) as (LabelSet, Int64 indices), in natural order or in the order given.

    Raises DataError that names the texts that a given order lacks.
    """
    distinct = texts.unique().drop_nulls().to_list()
    tidied = {text: tidy(text) for text in distinct}
    found = {name for name in tidied.values() if name}
    names = sorted(found, key=natural_key) if order is None else list(order)
    strangers = sorted(found - set(names), key=natural_key)
    if strangers:
        raise DataError(f"classes that the class list does not know: {', '.join(strangers[:5])}")
    table = {name: index for index, name in enumerate(names)}
    indices = {text: table.get(name, UNKNOWN) for text, name in tidied.items()}
    labels = LabelSet.model_validate({"names": tuple(names), **fields})
    return labels, texts.replace_strict(indices, default=UNKNOWN, return_dtype=pl.Int64).fill_null(UNKNOWN)


def normal_splits(texts: pl.Series, where: str) -> pl.Series:
    """Split texts in any known spelling as train, val, test or null. Raises DataError that names unknown ones."""
    distinct = [text for text in texts.unique().drop_nulls().to_list() if text.strip()]
    odd = sorted(text for text in distinct if text.strip().casefold() not in SPLIT_NAMES)
    if odd:
        raise DataError("unknown split", where=where, received=", ".join(odd[:5]), hint="use train, val and test")
    known = {text: SPLIT_NAMES[text.strip().casefold()] for text in distinct}
    return texts.replace_strict(known, default=None, return_dtype=pl.String)


def read_class_list(path: Path | str, text: str) -> list[str]:
    """One class a line, the line number being the index. Raises DataError for empty lines between and double names."""
    names = [tidy(line) for line in text.lstrip("\ufeff").rstrip().splitlines()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(names):
        reason = f"given twice: {', '.join(twice[:5])}" if twice and twice != [""] else "an empty line"
        raise DataError(f"a class list has one different name a line, {reason}", where=str(path))
    return names


def label_findings(table: ImageTable) -> tuple[Finding, ...]:
    """What is odd about the classes: alike but for case, one only, a single image, absent from train or a split."""
    counts = split_counts(table)
    return tuple(found for found in (*_odd_names(table.labels), *_odd_counts(counts), *_absent(counts)) if found)


def with_label_findings(table: ImageTable) -> ImageTable:
    """The table with the findings about its labels replaced by those of its rows as they are now."""
    kept = tuple(found for found in table.findings if found.code not in LABEL_CODES)
    return replace(table, findings=(*kept, *label_findings(table)))


def split_counts(table: ImageTable) -> dict[str, dict[str, int]]:
    """For each class name the number of rows by split (`""` where there is none) and `all`."""
    counts: dict[str, dict[str, int]] = {name: {"all": 0} for name in table.labels.names}
    grouped = table.frame.filter(pl.col("label") >= 0).group_by("label", "split").len()
    for label, split, number in grouped.iter_rows():
        row = counts[table.labels.names[label]]
        row[split or ""] = row.get(split or "", 0) + number
        row["all"] += number
    return counts


def _odd_names(labels: LabelSet) -> list[Finding]:
    folded: dict[str, list[str]] = {}
    for name in labels.names:
        folded.setdefault(name.casefold(), []).append(name)
    alike = [" / ".join(names) for names in folded.values() if len(names) > 1]
    if not alike:
        return []
    message = f"classes that differ only by case stay separate: {', '.join(alike[:5])}"
    return [finding("case_collision", "warning", message, hint="rename or merge them if they mean the same")]


def _odd_counts(counts: Mapping[str, dict[str, int]]) -> list[Finding]:
    found = []
    filled = [name for name, row in counts.items() if row["all"]]
    if len(filled) == 1:
        message = f"there is one class only: {filled[0]}"
        found.append(finding("one_class", "error", message, hint="a classifier needs images of at least two classes"))
    single = [name for name in filled if counts[name]["all"] == 1]
    if single:
        message = f"{len(single)} classes have a single image: {_listed(single)}"
        found.append(finding("single_image_class", "warning", message, hint="add images or leave these classes out"))
    return found


def _absent(counts: Mapping[str, dict[str, int]]) -> list[Finding]:
    found = []
    used = [split for split in SPLITS if any(row.get(split) for row in counts.values())]
    if "train" in used:
        untaught = [n for n, row in counts.items() if row["all"] and not row.get("train") and not row.get("")]
        if untaught:
            message = f"{len(untaught)} classes have images to test but none to train on: {_listed(untaught)}"
            hint = "move some of their images to train, or take the classes out"
            found.append(finding("class_not_in_train", "error", message, hint=hint))
    for split in (split for split in used if split != "train" and len(used) > 1):
        absent = [name for name, row in counts.items() if row["all"] and not row.get(split)]
        if absent:
            message = f"{len(absent)} of {len(counts)} classes have no image in {split}: {_listed(absent)}"
            found.append(finding("class_missing_in_split", "warning", message))
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
