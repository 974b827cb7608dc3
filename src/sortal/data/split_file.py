"""A split kept in a file, CSV or Parquet: name, digest, label, split, group for each row. Content counts, not the path.

A row is recognized by its digest, so renamed and moved files keep their split; a file whose content changed under the
same name is refused.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.publish import publish_file
from sortal.core.report import Finding
from sortal.data.formats.table_file import PARQUET_SUFFIXES, read_frame
from sortal.data.table import MAX_NAMED_ROWS, SPLITS, ImageTable, finding

COLUMNS = ("name", "digest", "label", "split", "group")


def save_split(table: ImageTable, path: Path) -> Path:
    """Write the split as CSV, or Parquet by the suffix. Raises DataError when the table is not scanned."""
    if table.frame["digest"].null_count():
        raise DataError("a split file needs content digests", where=table.source, hint="scan the table first")
    names = [*table.labels.names, None]
    frame = table.frame.select(
        table.name_series().alias("name"),
        "digest",
        pl.Series("label", [names[label] for label in table.frame["label"]], dtype=pl.String),
        "split",
        "group",
    )
    buffer = io.BytesIO()
    if path.suffix.lower() in PARQUET_SUFFIXES:
        frame.write_parquet(buffer)
    else:
        frame.write_csv(buffer)
    publish_file(path, buffer.getvalue())
    return path


def load_split(table: ImageTable, path: Path, *, edited: bool = False) -> ImageTable:
    """`table` with `split` and `group` of the file. Scan the table first.

    Rows that the file does not know keep no split and give a finding `not_in_split_file`; rows of the file that are
    gone give `missing_from_source`; other labels give `label_changed`. Raises DataError when a file's content changed
    (with `edited`, it keeps the split of its name), when the same content has several splits, and for files that are no
    split files.
    """
    kept = _read(path)
    if table.frame["digest"].null_count():
        raise DataError("a split is applied by content", where=table.source, hint="scan the table first")
    here = pl.DataFrame({"name": table.name_series(), "digest": table.frame["digest"]})
    if not edited:
        _refuse_changed(here, kept, path)
    known = kept.group_by("digest").agg(pl.col("split").first(), pl.col("group").first())
    exact = kept.select("name", "digest", named_split="split", named_group="group", named_label="label")
    joined = here.join(known, on="digest", how="left", maintain_order="left")
    joined = joined.join(exact, on=["name", "digest"], how="left", maintain_order="left")
    by_name = here.join(kept.select("name", "split", "group"), on="name", how="left", maintain_order="left")
    filled = joined.select(
        pl.coalesce("named_split", "split", by_name["split"]).alias("split"),
        pl.coalesce("named_group", "group", by_name["group"]).alias("group"),
    )
    done = table.with_columns({"split": filled["split"], "group": filled["group"]})
    return done.with_findings(*_differences(done, here, kept, joined["named_label"]))


def _read(path: Path) -> pl.DataFrame:
    frame = read_frame(path)
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        raise DataError(f"not a split file: no column {', '.join(absent)}", where=str(path))
    text = frame.select(pl.col(name).cast(pl.String).replace("", None) for name in COLUMNS)
    odd = set(text["split"].unique().drop_nulls()) - set(SPLITS)
    bad = text.filter(~pl.col("digest").str.contains(r"^[0-9a-f]{64}$").fill_null(value=False))
    if odd or bad.height:
        received = ", ".join(sorted(odd)) if odd else f"digest {bad['digest'][0]!r} of {bad['name'][0]}"
        raise DataError("not a valid split file", where=str(path), received=received)
    if text["name"].n_unique() != text.height:
        raise DataError("a split file names every row once", where=str(path))
    return text


def _refuse_changed(here: pl.DataFrame, kept: pl.DataFrame, path: Path) -> None:
    """The same name with content that the file does not know at all."""
    both = here.join(kept.select("name", kept_digest="digest"), on="name", how="inner")
    strange = ~pl.col("digest").is_in(kept["digest"].implode())
    changed = both.filter((pl.col("digest") != pl.col("kept_digest")) & strange)["name"]
    if changed.len():
        hint = "restore the images, or make a new split"
        listed = ", ".join(changed.head(3))
        raise DataError(
            f"{changed.len()} images are not those of the split file", where=str(path), received=listed, hint=hint
        )


def _differences(table: ImageTable, here: pl.DataFrame, kept: pl.DataFrame, labels: pl.Series) -> list[Finding]:
    found = []
    new = here.filter(~pl.col("digest").is_in(kept["digest"].implode()))["name"]
    gone = kept.filter(~pl.col("digest").is_in(here["digest"].implode()))["name"]
    names = [*table.labels.names, None]
    now = pl.Series([names[label] for label in table.frame["label"]], dtype=pl.String)
    changed = here["name"].filter((labels != now).fill_null(value=False))
    for code, rows, what in (
        ("not_in_split_file", new, "images are not in the split file and have no split"),
        ("missing_from_source", gone, "images of the split file are not here"),
        ("label_changed", changed, "images have another label than in the split file; the label here is used"),
    ):
        if rows.len():
            found.append(finding(code, "warning", f"{rows.len()} {what}", rows.head(MAX_NAMED_ROWS)))
    return found
