"""Who trains, who validates, who tests: seeded, stratified by class, and never cutting what belongs together (`units`).

A source's own splits are kept; only what is absent is filled. Choosing is `assign`, on plain arrays; folds are `folds`,
keeping a split in a file is `split_file`, and letting it grow with the folder is `grow`.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.report import Finding
from sortal.data.assign import assign
from sortal.data.formats.classes import with_label_findings
from sortal.data.leaks import KINDS, leaks_of, words_of
from sortal.data.split_file import load_split as load_split
from sortal.data.split_file import save_split as save_split
from sortal.data.table import MAX_NAMED_ROWS, SPLITS, UNKNOWN, ImageTable, finding
from sortal.data.units import artificial
from sortal.data.units import units as units

Ints = NDArray[np.int64]


def split(table: ImageTable, *, val: float, test: float, seed: int) -> ImageTable:
    """The table with `split` filled where the source has none; `val` and `test` are shares of what is divided.

    No splits, or train only: rows are divided into train, val and test. Test but no val: val is carved from train. Val
    but no test: there is no test. Rows without split beside rows with one count as train. Rows without label get none.
    For classes of images that stand alone every split holds its share within one image, and a class of at least
    1 / (val + test) images has one in each. Scan first, else duplicates are not known. Synthetic rows (see `units`)
    train, or take no part where what they belong to validates or tests. Raises DataError for shares that leave nothing
    to train, and when no row has a label.
    """
    check_shares(val, test)
    labels = table.label_array()
    if not (labels >= 0).any():
        hint = "put images into one folder a class, or name the label column"
        raise DataError("no image has a label", where=table.source, hint=hint)
    made = artificial(table)
    pool = (table.frame["split"].is_null() | (table.frame["split"] == "train")).to_numpy() & (labels >= 0) & ~made
    present = [name for name in SPLITS if table.split_rows(name).size]
    shares = _shares(present, val, test)
    chosen = table.frame["split"].to_numpy().astype(object)
    kept = units(table)
    if pool.any():
        rows = np.flatnonzero(pool)
        numbers = assign(labels[rows], kept[rows], shares, generator_of(seed))
        chosen[rows] = np.asarray(SPLITS, dtype=object)[numbers]
    chosen[made] = "train"
    chosen[made & (_beside_judges(kept, chosen, made) | (labels < 0))] = None
    done = table.with_columns({"split": pl.Series(chosen.tolist(), dtype=pl.String)})
    notes = (*_notes(table, done, present, shares, pool), *synthetic_notes(done, made))
    return with_label_findings(done).with_findings(*notes)


def check_shares(val: float, test: float) -> None:
    """Raises DataError for shares that leave nothing to train."""
    if val < 0 or test < 0 or val + test >= 1:
        raise DataError("val and test are shares of 0 or more, together below 1", received=f"val {val}, test {test}")


def synthetic_notes(table: ImageTable, made: NDArray[np.bool_]) -> list[Finding]:
    """What became of the synthetic rows (N,) of a divided table."""
    if not made.any():
        return []
    names = table.name_series().filter(pl.Series(made)).head(MAX_NAMED_ROWS)
    idle = int((table.frame["split"].is_null().to_numpy() & made).sum())
    left_out = f"; {idle} of them take no part, because what they belong to validates or tests" if idle else ""
    message = f"{int(made.sum())} synthetic images only train{left_out}"
    return [finding("synthetic_train_only", "info", message, names)]


def check_leaks(table: ImageTable) -> tuple[Finding, ...]:
    """A finding for each of `leaks.KINDS`: what belongs together and is in more than one split. Its rows are sorted, so
    that what belongs together stands together."""
    found = []
    for link, rows in leaks_of(table).items():
        if rows.any():
            frame = table.frame.select(key=link).with_columns(name=table.name_series()).filter(pl.Series(rows))
            names = frame.sort("key", "name")["name"].head(MAX_NAMED_ROWS)
            hint = "results on these splits look better than they are; remove the copies or split anew: sortal split"
            found.append(finding(KINDS[link][0], "warning", words_of(table, link, rows), names, hint))
    return tuple(found)


def _shares(present: list[str], val: float, test: float) -> tuple[float, float, float]:
    """Shares of train, val and test among the rows that are divided."""
    val_share = 0.0 if "val" in present else val
    test_share = 0.0 if "test" in present or "val" in present else test
    return 1.0 - val_share - test_share, val_share, test_share


def generator_of(seed: int) -> np.random.Generator:
    """The random numbers of a seed."""
    return np.random.Generator(np.random.Philox(key=seed))


def _beside_judges(kept: Ints, chosen: NDArray[np.object_], made: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) whether a row's unit has a row that is not synthetic and validates or tests."""
    judged = ~made & np.isin(chosen.astype(str), SPLITS[1:])
    return np.isin(kept, np.unique(kept[judged]))


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
    if shares[0] < 1.0 and len(after.split_rows("train")) == len(after) and pool.any():
        notes.append(_all_train(after, pool))
    unknown = int((after.label_array() == UNKNOWN).sum())
    if unknown:
        notes.append(finding("unlabeled_left_out", "info", f"{unknown} rows without a label take no part"))
    return notes


def _all_train(table: ImageTable, pool: NDArray[np.bool_]) -> Finding:
    """Shares were asked for, and what belongs together leaves nothing to deal out."""
    numbers, labels = units(table)[pool], table.label_array()[pool]
    message = (
        f"nothing could be held out: {int(pool.sum())} images are {len(np.unique(numbers))} units of images that "
        f"belong together, for {len(np.unique(labels))} classes, so all of them train"
    )
    hint = "are the groups too coarse? A class needs two units to be in two splits"
    return finding("nothing_held_out", "warning", message, (), hint)
