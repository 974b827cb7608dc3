"""A split kept in a file, CSV or Parquet: name, digest, label, split, group for each row. Content counts, not the path.

A row is recognized by its digest, so renamed and moved files keep their split; a file whose content changed under the
same name is refused. `unit` numbers what was kept together, `fold` is that of a cross-validation, and `lock` seals test
rows: it is a digest over the contents of all rows that bear it, so that none can be added, removed or moved.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import polars as pl

from sortal.core.errors import DataError
from sortal.core.publish import publish_file
from sortal.core.report import Finding
from sortal.data.formats.table_file import PARQUET_SUFFIXES, read_frame
from sortal.data.table import MAX_NAMED_ROWS, SPLITS, ImageTable, finding
from sortal.data.units import UNIT, units

COLUMNS = ("name", "digest", "label", "split", "group")
OPTIONAL = ("unit", "fold", "lock")
LOCK = "_lock"


def save_split(table: ImageTable, path: Path, *, gone: pl.DataFrame | None = None) -> Path:
    """Write the split as CSV, or Parquet by the suffix. Raises DataError when the table is not scanned.

    `gone` are rows of an older file (as `sealed` gives them) whose images are not in the table.
    """
    if table.frame["digest"].null_count():
        raise DataError("a split file needs content digests", where=table.source, hint="scan the table first")
    names = [*table.labels.names, None]
    frame = table.frame.select(
        table.name_series().alias("name"),
        "digest",
        pl.Series("label", [names[label] for label in table.frame["label"]], dtype=pl.String),
        "split",
        "group",
        _unit_numbers(table),
        *(pl.col(name).cast(pl.String).alias(name.lstrip("_")) for name in ("fold", LOCK) if name in table.frame),
    )
    if gone is not None and gone.height:
        taken = pl.col("name").is_in(frame["name"].implode())  # by a file that was renamed
        apart = pl.when(taken).then(pl.col("digest") + pl.lit(" ") + pl.col("name")).otherwise("name").alias("name")
        known = gone.select(name for name in frame.columns if name in gone.columns)
        frame = pl.concat([frame, known.with_columns(apart)], how="diagonal")
    buffer = io.BytesIO()
    if path.suffix.lower() in PARQUET_SUFFIXES:
        frame.write_parquet(buffer)
    else:
        frame.write_csv(buffer)
    publish_file(path, buffer.getvalue())
    return path


def lock_test(table: ImageTable) -> ImageTable:
    """The table with its test rows sealed: those that bear no lock yet get one of their own."""
    before = table.frame[LOCK] if LOCK in table.frame else pl.Series([None] * len(table), dtype=pl.String)
    fresh = (table.frame["split"] == "test").fill_null(value=False) & before.is_null()
    if not fresh.any():
        return table.with_columns({LOCK: before})
    seal = _seal(table.frame["digest"].filter(fresh))
    return table.with_columns({LOCK: before.set(fresh, seal)})


def sealed(path: Path) -> pl.DataFrame:
    """The locked rows of a split file, as text; none where the file is not locked. Raises DataError as `load_split`."""
    kept = _read(path)
    return kept.filter(pl.col("lock").is_not_null()) if "lock" in kept else kept.clear()


def load_split(table: ImageTable, path: Path, *, edited: bool = False) -> ImageTable:
    """`table` with `split` and `group` of the file, its units as `_unit`, its `fold`, and the lock as `_lock`, where it
    has them; where it has no group, the table's stays. Scan the table first.

    Rows that the file does not know keep no split and give a finding `not_in_split_file`; rows of the file that are
    gone give `missing_from_source`; other labels give `label_changed`. Raises DataError when a file's content changed
    (with `edited`, it keeps the split of its name), when locked rows were changed, and for files that are no split
    files.
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
        pl.coalesce("named_group", "group", by_name["group"], table.frame["group"]).alias("group"),
    )
    done = table.with_columns({"split": filled["split"], "group": filled["group"], **_further(here, kept)})
    return done.with_findings(*_differences(done, here, kept, joined["named_label"]))


def _read(path: Path) -> pl.DataFrame:
    frame = read_frame(path)
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        raise DataError(f"not a split file: no column {', '.join(absent)}", where=str(path))
    wanted = [*COLUMNS, *(name for name in OPTIONAL if name in frame.columns)]
    text = frame.select(pl.col(name).cast(pl.String).replace("", None) for name in wanted)
    odd = set(text["split"].unique().drop_nulls()) - set(SPLITS)
    bad = text.filter(~pl.col("digest").str.contains(r"^[0-9a-f]{64}$").fill_null(value=False))
    if odd or bad.height:
        received = ", ".join(sorted(odd)) if odd else f"digest {bad['digest'][0]!r} of {bad['name'][0]}"
        raise DataError("not a valid split file", where=str(path), received=received)
    if text["name"].n_unique() != text.height:
        raise DataError("a split file names every row once", where=str(path))
    _check_seals(text, path)
    return text


def _seal(digests: pl.Series) -> str:
    """SHA-256 over contents, in any order."""
    return hashlib.sha256("\n".join(["sortal-lock-1", *digests.sort().to_list()]).encode()).hexdigest()


def _check_seals(text: pl.DataFrame, path: Path) -> None:
    if "lock" not in text:
        return
    for seal, rows in text.filter(pl.col("lock").is_not_null()).group_by("lock"):
        moved = rows.filter((pl.col("split") != "test").fill_null(value=True))
        if moved.height or _seal(rows["digest"]) != seal[0]:
            what = f"{moved['name'][0]} is not in test any more" if moved.height else "rows were added or removed"
            hint = "restore the file; to begin anew on purpose, write a split under another name"
            raise DataError("the locked test images were changed", where=str(path), received=what, hint=hint)


def _unit_numbers(table: ImageTable) -> pl.Series:
    """The unit of each row that is kept together with others."""
    numbers = pl.Series("unit", units(table))
    return numbers.set(~numbers.is_duplicated(), None).cast(pl.String)


def _further(here: pl.DataFrame, kept: pl.DataFrame) -> dict[str, pl.Series]:
    """What else the file knows of the rows here, by content."""
    found = {}
    for name, column in (("unit", UNIT), ("fold", "fold"), ("lock", LOCK)):
        if name not in kept or kept[name].null_count() == kept.height:
            continue
        known = kept.filter(pl.col(name).is_not_null()).group_by("digest").agg(pl.col(name).first())
        values = here.join(known, on="digest", how="left", maintain_order="left")[name]
        found[column] = values.cast(pl.Int64, strict=False) if name == "fold" else values
    return found


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
