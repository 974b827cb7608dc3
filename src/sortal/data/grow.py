"""A split that grows with its folder: what was divided stays where it is, new images join the side of their unit.

So a locked test stays the same test, no matter how often images are added, and nothing that belongs to a test image
ever trains.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.data.assign import assign
from sortal.data.formats.classes import with_label_findings
from sortal.data.split import check_shares, generator_of, synthetic_notes
from sortal.data.split_file import load_split
from sortal.data.table import MAX_NAMED_ROWS, SPLITS, ImageTable, finding
from sortal.data.units import artificial, units

Ints = NDArray[np.int64]

_NONE, _SEVERAL = -1, -2
TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


def grow_split(table: ImageTable, path: Path, *, val: float, test: float, seed: int) -> ImageTable:
    """The table divided as the split file at `path` says, and the images that it does not know divided beside.

    Scan the table first. A new image whose unit is in one split joins it; one that belongs to several, because it
    links what was apart, takes no part: finding `links_splits`. Units that are new altogether are dealt so that `val`
    and `test` become the shares of the whole. Raises DataError as `load_split` and for impossible shares.
    """
    check_shares(val, test)
    loaded = load_split(table, path)
    labels, kept, made = loaded.label_array(), units(loaded), artificial(loaded)
    sides = loaded.frame["split"].replace_strict(list(SPLITS), range(3), default=None, return_dtype=pl.Int64)
    chosen = sides.fill_null(_NONE).to_numpy().astype(np.int64)
    fresh = (chosen == _NONE) & (labels >= 0)
    side_of = _side_of_units(kept, chosen)[kept]
    joining = fresh & (side_of != _NONE) & (~made | (side_of == TRAIN))
    chosen[joining] = side_of[joining]
    chosen[fresh & made & (side_of == _NONE)] = TRAIN
    rest = np.flatnonzero(fresh & (side_of == _NONE) & ~made)
    if len(rest):
        placed = np.flatnonzero((chosen >= 0) & ~made & (labels >= 0))
        shares = (1 - val - test, val, test)
        held = (labels[placed], chosen[placed])
        chosen[rest] = assign(labels[rest], kept[rest], shares, generator_of(seed), held=held)
    linking = chosen == _SEVERAL
    chosen[linking] = _NONE
    names = pl.Series([*SPLITS, None], dtype=pl.String)
    done = with_label_findings(loaded.with_columns({"split": names.gather(pl.Series(chosen % 4))}))
    return done.with_findings(*_notes(done, joining, linking, rest), *synthetic_notes(done, made))


def _side_of_units(kept: Ints, chosen: Ints) -> Ints:
    """(N,) for each unit number the split of its rows, _NONE where none is in one, _SEVERAL where they differ.

    Where a unit was cut already, new rows of it would leak whatever they joined.
    """
    known = np.flatnonzero(chosen >= 0)
    lowest = np.full(len(kept), len(SPLITS), np.int64)
    highest = np.full(len(kept), _NONE, np.int64)
    np.minimum.at(lowest, kept[known], chosen[known])
    np.maximum.at(highest, kept[known], chosen[known])
    return np.where(highest == _NONE, _NONE, np.where(lowest == highest, highest, _SEVERAL))


def _notes(table: ImageTable, joining: NDArray[np.bool_], linking: NDArray[np.bool_], rest: Ints) -> list:  # type: ignore[type-arg]
    notes = []
    joined = int((joining & ~linking).sum())
    if joined or len(rest):
        message = f"{joined + len(rest)} images are new: {joined} joined the split of what they belong to, {len(rest)}"
        notes.append(finding("split_grown", "info", f"{message} were divided"))
    if linking.any():
        message = f"{int(linking.sum())} new images belong to what is in several splits, and take no part"
        names = table.name_series().filter(pl.Series(linking)).head(MAX_NAMED_ROWS)
        notes.append(finding("links_splits", "warning", message, names))
    return notes
