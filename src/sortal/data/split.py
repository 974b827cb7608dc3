"""Who trains, who validates, who tests: seeded, stratified by class, groups and exact duplicates never cut.

A source's own splits are kept; only what is absent is filled. Choosing is `assign`, on plain arrays; keeping a split in
a file is `split_file`.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.report import Finding
from sortal.data.assign import assign
from sortal.data.formats.classes import with_label_findings
from sortal.data.split_file import load_split as load_split
from sortal.data.split_file import save_split as save_split
from sortal.data.table import MAX_NAMED_ROWS, SPLITS, UNKNOWN, ImageTable, finding

Ints = NDArray[np.int64]


def split(table: ImageTable, *, val: float, test: float, seed: int) -> ImageTable:
    """The table with `split` filled where the source has none; `val` and `test` are shares of what is divided.

    No splits, or train only: rows are divided into train, val and test. Test but no val: val is carved from train. Val
    but no test: there is no test. Rows without split beside rows with one count as train. Rows without label get none.
    For classes of images that stand alone every split holds its share within one image, and a class of at least
    1 / (val + test) images has one in each. Scan first, else duplicates are not known. Raises DataError for shares
    that leave nothing to train, and when no row has a label.
    """
    if val < 0 or test < 0 or val + test >= 1:
        raise DataError("val and test are shares of 0 or more, together below 1", received=f"val {val}, test {test}")
    labels = table.label_array()
    if not (labels >= 0).any():
        hint = "put images into one folder a class, or name the label column"
        raise DataError("no image has a label", where=table.source, hint=hint)
    pool = (table.frame["split"].is_null() | (table.frame["split"] == "train")).to_numpy() & (labels >= 0)
    present = [name for name in SPLITS if table.split_rows(name).size]
    shares = _shares(present, val, test)
    chosen = table.frame["split"].to_numpy().astype(object)
    if pool.any():
        rows = np.flatnonzero(pool)
        numbers = assign(labels[rows], units(table)[rows], shares, _generator(seed))
        chosen[rows] = np.asarray(SPLITS, dtype=object)[numbers]
    done = table.with_columns({"split": pl.Series(chosen.tolist(), dtype=pl.String)})
    return with_label_findings(done).with_findings(*_notes(table, done, present, shares, pool))


def units(table: ImageTable) -> Ints:
    """(N,) a number for each row, equal for rows that must stay together: same group or content, also in a chain."""
    keys = [table.frame[name] for name in ("group", "digest")]
    links = [_codes(key) for key in keys if key.null_count() < key.len()]
    parent = np.arange(len(table), dtype=np.int64)
    while links:
        before = parent
        for link in links:
            parent = _lowest(parent, link)
        parent = parent[parent]
        if np.array_equal(parent, before):
            break
    return parent


def check_leaks(table: ImageTable) -> tuple[Finding, ...]:
    """Findings `duplicates_across_splits` and `group_across_splits`: content or groups in more than one split."""
    named = table.frame.with_columns(table.name_series().alias("_name")).filter(pl.col("split").is_not_null())
    found = []
    for key, code, what in (
        ("digest", "duplicates_across_splits", "images have an exact copy in another split"),
        ("group", "group_across_splits", "rows belong to groups that are in more than one split"),
    ):
        known = named.filter(pl.col(key).is_not_null())
        leaked = known.filter(pl.col("split").n_unique().over(key) > 1).sort(key, "_name")
        if leaked.height:
            pairs = leaked.group_by(key).agg(pl.col("split").unique().sort().str.join("+"))["split"].value_counts()
            listed = ", ".join(f"{number} in {splits}" for splits, number in pairs.sort("split").iter_rows())
            message = f"{leaked.height} {what} ({listed})"
            hint = "results on these splits look better than they are; remove the copies or split anew"
            found.append(finding(code, "warning", message, leaked["_name"].head(MAX_NAMED_ROWS), hint))
    return tuple(found)


def _shares(present: list[str], val: float, test: float) -> tuple[float, float, float]:
    """Shares of train, val and test among the rows that are divided."""
    val_share = 0.0 if "val" in present else val
    test_share = 0.0 if "test" in present or "val" in present else test
    return 1.0 - val_share - test_share, val_share, test_share


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def _codes(key: pl.Series) -> Ints:
    """Dense codes of the values; every null is a code of its own."""
    codes = key.rank("dense").cast(pl.Int64)
    alone = pl.int_range(codes.len(), eager=True) + codes.len() + 1
    return codes.fill_null(alone).to_numpy()


def _lowest(parent: Ints, link: Ints) -> Ints:
    """For each row the lowest parent among the rows that share its link."""
    frame = pl.DataFrame({"parent": parent, "link": link})
    return frame.select(pl.col("parent").min().over("link")).to_series().to_numpy()


def _notes(
    before: ImageTable,
    after: ImageTable,
    present: list[str],
    shares: tuple[float, float, float],
    pool: NDArray[np.bool_],
) -> list[Finding]:
    counts = ", ".join(f"{name} {after.split_rows(name).size}" for name in SPLITS)
    loose = int((before.frame["split"].is_null().to_numpy() & pool).sum())
    notes = []
    if shares[0] < 1.0:
        origin = "the source has no splits" if set(present) <= {"train"} else f"the source has {' and '.join(present)}"
        what = "val is carved from train" if "test" in present else "train, val and test are chosen here"
        notes.append(finding("split_made", "info", f"{origin}; {what}: {counts}"))
    if present and loose:
        notes.append(finding("split_filled", "info", f"{loose} labeled rows have no split and count as train"))
    if not after.split_rows("test").size:
        notes.append(finding("no_test_split", "warning", "there is no test split; results will be those of validation"))
    if not after.split_rows("val").size:
        notes.append(finding("no_val_split", "info", "there is no validation split"))
    unknown = int((after.label_array() == UNKNOWN).sum())
    if unknown:
        notes.append(finding("unlabeled_left_out", "info", f"{unknown} rows without a label take no part"))
    return notes
