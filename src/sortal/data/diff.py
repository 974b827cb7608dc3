"""What differs between two versions of a data set: added, removed, relabeled, moved, changed content, other splits.

Images are paired by name first, then by content, so a renamed file is no removal and a class folder's relabeling (which
is a move) is a relabeling. Whole columns are joined: a million rows take seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from sortal.core.errors import DataError
from sortal.core.report import Metric, Report, Table
from sortal.data.formats.table_file import SUFFIXES, read_frame
from sortal.data.open import images
from sortal.data.repair.resolve import named_classes
from sortal.data.scan import Progress, scan
from sortal.data.table import ImageTable

Kind = Literal["added", "removed", "relabeled", "moved", "changed", "split"]
KINDS: dict[Kind, str] = {
    "added": "only in the second",
    "removed": "only in the first",
    "relabeled": "same content, another class",
    "moved": "same content, another name",
    "changed": "same name, other content",
    "split": "same content, another split",
}
LISTING = {"name": pl.String(), "content": pl.String(), "label": pl.String(), "split": pl.String()}
"""One row an image: its name, its content (digest and region; null: not compared), its class, its split."""
ROWS = {
    "kind": pl.String(),
    "name": pl.String(),
    "other": pl.String(),
    **{f"{what}_{side}": pl.String() for what in ("label", "split") for side in ("a", "b")},
}
SHOWN = 20
_SPLIT_COLUMNS = ("name", "digest", "label", "split")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One version. `content_digest` is None where the content is not known."""

    source: str
    listing: pl.DataFrame
    listing_digest: str
    content_digest: str | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`rows` has a row for each image and kind; an image in another class and another split has two."""

    a: Side
    b: Side
    rows: pl.DataFrame

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.rows.height == 0

    def counts(self) -> dict[str, int]:
        """Images by kind, in the order of `KINDS`."""
        found = dict(self.rows.group_by("kind").len().iter_rows())
        return {kind: found.get(kind, 0) for kind in KINDS}


def side(source: Path, *, content: bool = True, label: str = "label", progress: Progress | None = None) -> Side:
    """A version of a data set: anything that holds images, a split file, or a run (its `split.csv`).

    Images are read for their content unless `content` is False; split files know it. Raises DataError as `images` does.
    """
    split_file = source / "split.csv" if source.is_dir() and (source / "split.csv").is_file() else source
    kept = _of_split_file(split_file)
    if kept is not None:
        return kept
    table = images(source, label=label)
    return side_of(scan(table, progress=progress) if content else table, str(source))


def side_of(table: ImageTable, source: str) -> Side:
    """A version from a table, scanned or not."""
    names = table.name_series()
    region = names.str.extract(r"(@[^@]*)$").fill_null("")
    where = pl.when(table.frame["region"].is_not_null()).then(region).otherwise(pl.lit(""))
    content = pl.select(table.frame["digest"] + where).to_series()
    frame = named_classes(table).rename({"class": "label"}).with_columns(content=content, split=table.frame["split"])
    known = not table.frame["digest"].null_count()
    return Side(
        source=source,
        listing=frame.select(list(LISTING)),
        listing_digest=table.listing_digest,
        content_digest=table.content_digest if known else None,
    )


def compare(a: Side, b: Side) -> Difference:
    """What happened from `a` to `b`."""
    both = a.listing.join(b.listing, on="name", how="inner", suffix="_b").with_columns(other=pl.col("name"))
    left, right = (one.listing.join(two.listing, on="name", how="anti") for one, two in ((a, b), (b, a)))
    matched, gone, new = _by_content(left, right)
    paired = pl.concat([_pairs(both), _pairs(matched)])
    differ = pl.col("content").ne_missing(pl.col("content_b")) & pl.col("content").is_not_null()
    changed = differ & pl.col("content_b").is_not_null()
    relabeled = pl.col("label_a").ne_missing(pl.col("label_b"))
    moved = pl.col("name") != pl.col("other")
    parts = [
        _alone(new, "added"),
        _alone(gone, "removed"),
        _kind(paired.filter(relabeled), "relabeled"),
        _kind(paired.filter(moved & ~relabeled), "moved"),
        _kind(paired.filter(changed), "changed"),
        _kind(paired.filter(pl.col("split_a").ne_missing(pl.col("split_b"))), "split"),
    ]
    return Difference(a=a, b=b, rows=pl.concat(parts))


def report(found: Difference) -> Report:
    """Counts by kind, images by class, and the first rows of each kind."""
    counts = found.counts()
    first = found.rows.group_by("kind", maintain_order=True).head(SHOWN)
    digests = {"a": found.a.content_digest, "b": found.b.content_digest}
    metrics = {kind: Metric(value=number) for kind, number in counts.items()}
    metrics |= {f"images {which}": Metric(value=one.listing.height) for which, one in (("a", found.a), ("b", found.b))}
    tables = {
        "What differs": Table(columns=tuple(ROWS), rows=tuple(first.select(list(ROWS)).rows())),
        "Classes": _classes(found),
    }
    return Report(
        kind="data-diff",
        subject=f"{found.a.source} -> {found.b.source}",
        metrics=metrics,
        tables={name: table for name, table in tables.items() if table.rows},
        provenance={
            "listing_digest_a": found.a.listing_digest,
            "listing_digest_b": found.b.listing_digest,
            "content_digest_a": digests["a"],
            "content_digest_b": digests["b"],
        },
        body={"equal": found.equal, "content_compared": all(digests.values())},
    )


def digest_report(one: Side) -> Report:
    """The digests of a data set."""
    facts = {"listing_digest": one.listing_digest, "content_digest": one.content_digest}
    classes = one.listing["label"].drop_nulls().n_unique()
    metrics = {"images": Metric(value=one.listing.height), "classes": Metric(value=classes)}
    return Report(
        kind="data-digest", subject=one.source, data_digest=one.content_digest, metrics=metrics, provenance=facts
    )


def _of_split_file(path: Path) -> Side | None:
    """None where `path` is no split file."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return None
    frame = read_frame(path)
    if not set(_SPLIT_COLUMNS) <= set(frame.columns):
        return None
    text = frame.select(pl.col(name).cast(pl.String).replace("", None) for name in _SPLIT_COLUMNS)
    if text["name"].null_count() or text["name"].n_unique() != text.height:
        raise DataError("a split file names every row once", where=str(path))
    region = pl.col("name").str.extract(r"(@[0-9.,e-]+)$").fill_null("")
    listing = text.with_columns(content=pl.col("digest") + region)
    return Side(
        source=str(path),
        listing=listing.select(list(LISTING)),
        listing_digest=_digest(listing, ("name", "label", "split")),
        content_digest=None
        if text["digest"].null_count()
        else _digest(listing.with_columns(region=region), ("digest", "region", "label")),
    )


def _digest(frame: pl.DataFrame, columns: tuple[str, ...]) -> str:
    """The digests of ImageTable, from the columns of a split file."""
    joined = pl.concat_str([pl.col(name).fill_null("") for name in columns], separator="\0")
    lines = frame.select(joined.alias("line")).to_series().sort()
    return hashlib.sha256("".join(f"{line}\n" for line in ["sortal-table-1", *lines]).encode()).hexdigest()


def _by_content(left: pl.DataFrame, right: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows of equal content paired one to one (same label first), and what is left on either side."""
    first = _paired(left, right, ["content", "label"])
    rest = [_without(frame, first, name) for frame, name in ((left, "name"), (right, "other"))]
    second = _paired(rest[0], rest[1], ["content"])
    matched = pl.concat([first, second])
    return matched, _without(left, matched, "name"), _without(right, matched, "other")


def _paired(left: pl.DataFrame, right: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Equal keys, the first with the first, the second with the second, by name."""
    named = right.rename({"name": "other", "split": "split_b"}).with_columns(content_b="content", label_b="label")
    turns = [
        frame.filter(pl.col("content").is_not_null())
        .sort(name)
        .with_columns(pl.int_range(pl.len()).over(keys).alias("turn"))
        for frame, name in ((left, "name"), (named, "other"))
    ]
    there = turns[1].select(*keys, "turn", "other", "split_b", "content_b", "label_b")
    joined = turns[0].join(there, on=[*keys, "turn"], how="inner", nulls_equal=True)
    return joined.select("name", "content", "label", "split", "content_b", "label_b", "split_b", "other")


def _without(frame: pl.DataFrame, matched: pl.DataFrame, column: str) -> pl.DataFrame:
    return frame.join(matched.select(pl.col(column).alias("name")), on="name", how="anti")


def _pairs(joined: pl.DataFrame) -> pl.DataFrame:
    return joined.select(
        "name", "other", "content", "content_b", "label_b", "split_b", label_a="label", split_a="split"
    )


def _alone(frame: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    which = "b" if kind == "added" else "a"
    named = frame.with_columns(other=pl.col("name")).rename({"label": f"label_{which}", "split": f"split_{which}"})
    return _kind(named, kind)


def _kind(frame: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    absent = [pl.lit(None, dtype=pl.String).alias(name) for name in ROWS if name not in frame.columns]
    return frame.with_columns(absent).with_columns(kind=pl.lit(kind)).select(list(ROWS)).sort("name")


def _classes(found: Difference) -> Table:
    sides = [
        one.listing.with_columns(pl.col("label").fill_null("(none)")).group_by("label").len(name)
        for one, name in ((found.a, "a"), (found.b, "b"))
    ]
    both = sides[0].join(sides[1], on="label", how="full", coalesce=True).fill_null(0)
    both = both.with_columns(change=pl.col("b").cast(pl.Int64) - pl.col("a").cast(pl.Int64))
    both = both.filter(pl.col("change") != 0)
    rows = both.sort(pl.col("change").abs(), "label", descending=[True, False]).rows()
    return Table(columns=("class", "first", "second", "change"), rows=tuple(rows))
