"""Group keys proposed from what a table says anyway: file names, folders, extra columns, camera and day of EXIF.

A group is what must not be on both sides of a split: a part, a lot, a patient, a session. Nothing here is applied; a
person who knows the data chooses, and pastes the pattern into `--group`.

Shapes: N rows of the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from sortal.data.survey import Survey
from sortal.data.table import COLUMNS, ImageTable

PLAIN_WORDS = (
    "lot", "batch", "patient", "subject", "person", "specimen", "sample", "object", "part", "piece", "serial", "unit",
    "session", "series", "sequence", "seq", "scene", "burst", "video", "clip", "case", "site", "machine",
    "line", "roll", "plate", "slide", "shift", "visit", "study", "day", "date", "pid",
    "sid", "批次", "批", "患者", "病人", "工件",
)  # fmt: skip
"""Words that name a group as such."""

LEAST_MATCHED = 0.8
"""Share of the rows that a pattern has to match."""
FEWEST = 2
_NAMES_LOOKED_AT = 20_000
_NUMBERED = re.compile(r"([^\W\d_]+)([-_ ]?)(\d+)")
_MOST_FIELDS = 5


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One way to group the rows."""

    key: str
    """In words: `lot in the file name`."""
    pattern: str
    """What `--group` takes: a column or a regular expression over row names."""
    groups: int
    matched: float
    """Share of the rows with a group, 0..1."""
    largest: float
    """Share of the matched rows that are in the largest group, 0..1."""
    evenness: float
    """Entropy of the group sizes over that of equal ones, 0..1."""
    single_class: float
    """Share of the groups whose rows are of one class, 0..1. Near 1 is natural for objects."""
    example: str
    """A row name and its group."""
    useless: str | None
    """Why it cannot divide anything, or None."""
    rank: float
    """0..1, how well it serves as a group; 0 where it is useless."""


def propose_groups(table: ImageTable, survey: Survey | None = None, *, most: int = 12) -> tuple[Proposal, ...]:
    """Ways to group the rows, best first. The names decide, so this is quick for any number of rows."""
    names = table.name_series()
    found: dict[bytes, Proposal] = {}
    for key, pattern, values in _ways(table, names, survey):
        proposal = _judged(table, names, key, pattern, values)
        if proposal is None:
            continue
        same = values.rank("dense").fill_null(0).to_numpy().astype(np.int64).tobytes()
        before = found.get(same)  # several patterns may say the same thing
        if before is None or proposal.rank > before.rank:
            found[same] = proposal
    return tuple(sorted(found.values(), key=lambda proposal: -proposal.rank)[:most])


def with_exif_columns(table: ImageTable, survey: Survey) -> ImageTable:
    """The table with columns `camera` and `day` of EXIF, which `--group` then takes too, unless it has them already."""
    given = {"camera": survey.frame["camera"], "day": survey.frame["taken"].dt.strftime("%Y-%m-%d")}
    new = {name: values for name, values in given.items() if name not in table.frame.columns and values.count()}
    return table.with_columns(new) if new else table


def _ways(table: ImageTable, names: pl.Series, survey: Survey | None) -> Iterator[tuple[str, str, pl.Series]]:
    frame = table.frame
    for column in frame.columns:
        if column not in COLUMNS and not column.startswith("_") and not frame[column].dtype.is_nested():
            yield f"column {column}", column, frame[column].cast(pl.String, strict=False)
    for key, pattern in _patterns(names):
        yield key, pattern, names.str.extract(pattern, 1)
    if survey is not None:
        for column in ("camera", "day"):
            extended = with_exif_columns(table, survey).frame
            if column in extended.columns and column not in frame.columns:
                yield f"{column} of EXIF", column, extended[column]


def _patterns(names: pl.Series) -> Iterator[tuple[str, str]]:
    seen = names.gather_every(max(1, names.len() // _NAMES_LOOKED_AT)).to_list()
    counts: dict[tuple[str, str], int] = {}
    for name in seen:
        for word, joint in {(word, joint) for word, joint, _ in _NUMBERED.findall(name)}:
            counts[word, joint] = counts.get((word, joint), 0) + 1
    for (word, joint), count in sorted(counts.items()):
        if count >= LEAST_MATCHED * len(seen):
            yield f"{word} and its number", rf"{re.escape(word)}{joint}(\d+)"
    yield "the name before its last number", r"([^/]+?)[-_ ]?\d+\.[^./]+$"
    yield "the number before the last one", r"(\d+)[^\d/]+\d+\.[^./]+$"
    fields = max((len(re.split("[-_]", name.rsplit("/", 1)[-1])) for name in seen), default=1)
    for number in range(min(fields - 1, _MOST_FIELDS)):
        before = r"[^-_/]+[-_]" * number
        yield f"field {number + 1} of the file name", rf"(?:^|/){before}([^-_/]+)[-_][^/]*$"
    yield "the folder of the file", r"([^/]+)/[^/]+$"
    yield "the folder above that", r"([^/]+)/[^/]+/[^/]+$"


def _judged(table: ImageTable, names: pl.Series, key: str, pattern: str, values: pl.Series) -> Proposal | None:
    """None where too few rows have a group, or all have the same or each its own."""
    frame = pl.DataFrame({"group": values, "label": table.frame["label"]}).filter(pl.col("group").is_not_null())
    sizes = frame.group_by("group").agg(pl.len().alias("rows"), pl.col("label").n_unique().alias("classes"))
    matched = frame.height / max(len(table), 1)
    if matched < LEAST_MATCHED or sizes.height < FEWEST or sizes.height > frame.height * 0.9:
        return None
    share = sizes["rows"].to_numpy() / frame.height
    evenness = float(-(share * np.log(share)).sum() / np.log(sizes.height))
    single = float((sizes["classes"].to_numpy() == 1).mean())
    classes = frame["label"].n_unique()
    useless = _useless(frame, sizes.height, single, classes, float(share.max()))
    first = int(np.flatnonzero(values.is_not_null().to_numpy())[0])
    rank = 0.0 if useless else _rank(key, matched, evenness, sizes.height, classes)
    return Proposal(
        key=key,
        pattern=pattern,
        groups=sizes.height,
        matched=matched,
        largest=float(share.max()),
        evenness=evenness,
        single_class=single,
        example=f"{names[first]} → {values[first]}",
        useless=useless,
        rank=rank,
    )


def _useless(frame: pl.DataFrame, groups: int, single: float, classes: int, largest: float) -> str | None:
    if single == 1.0 and classes > 1 and groups <= classes:
        return "it is the class: no class would be on both sides"
    per_class = frame.group_by("label").agg(pl.col("group").n_unique().alias("groups"))["groups"]
    if classes > 1 and float((per_class.to_numpy() == 1).mean()) > 0.5:
        return "most classes lie in one group, so they would be on one side only"
    if largest > 0.8:
        return f"one group holds {largest:.0%} of the images"
    return None


def _rank(key: str, matched: float, evenness: float, groups: int, classes: int) -> float:
    """Named things first, then even ones with several groups for each class."""
    words = re.split(r"[\W_]+", key.casefold())
    named = any(word in words for word in PLAIN_WORDS)
    plenty = min(1.0, groups / (3 * max(classes, 1)) + 0.25)
    return (0.5 if named else 0.0) + 0.5 * matched * evenness * plenty
