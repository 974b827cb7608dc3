"""What must stay together: rows of one content, of one cluster of near duplicates, of one burst, of one group.

A unit is what these join, also in chains. Clusters and bursts are columns that `together` adds to a table; they come
from a survey, and without one there are only contents and groups.

Shapes: N rows of the table.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.data.table import ImageTable

Ints = NDArray[np.int64]

NEAR, BURST, ALIKE, UNIT = "_near", "_burst", "_alike", "_unit"
LINKS = {
    "digest": "identical files",
    NEAR: "near duplicates",
    BURST: "bursts (pictures taken together)",
    ALIKE: "alike (pictures of one scene, or of one kind)",
    "group": "groups",
    UNIT: "what the split file keeps together",
}
"""The columns whose equal values keep rows together, and what a person calls them."""

ARTIFICIAL = ("synthetic", "generated", "simulated")
"""Values of a column `source` whose rows only ever train."""


def units(table: ImageTable) -> Ints:
    """(N,) a number for each row, equal for rows that must stay together: the lowest row that it is joined with."""
    keys = [table.frame[name] for name in LINKS if name in table.frame.columns]
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


def together(
    table: ImageTable, *, near: Ints | None = None, burst: Ints | None = None, alike: Ints | None = None
) -> ImageTable:
    """The table with clusters of near duplicates, bursts, and sets that are alike where everything is, (N,) numbers
    each, -1 for rows that are in none."""
    given = {NEAR: near, BURST: burst, ALIKE: alike}
    return table.with_columns({name: _nulls(name, codes) for name, codes in given.items() if codes is not None})


def kept_together(table: ImageTable) -> dict[str, tuple[int, int]]:
    """What keeps rows together, in the words of `LINKS`: how many sets of several rows there are, and of how many
    rows."""
    found = {}
    for name, words in LINKS.items():
        if name not in table.frame.columns:
            continue
        key = table.frame[name].drop_nulls()
        joined = key.filter(key.is_duplicated())
        if joined.len():
            found[words] = (joined.n_unique(), joined.len())
    return found


def artificial(table: ImageTable) -> NDArray[np.bool_]:
    """(N,) whether a row is synthetic by its column `source`."""
    if "source" not in table.frame.columns:
        return np.zeros(len(table), bool)
    said = table.frame["source"].cast(pl.String).str.strip_chars().str.to_lowercase()
    return np.asarray(said.is_in(ARTIFICIAL).fill_null(value=False).to_numpy())


def _nulls(name: str, codes: Ints) -> pl.Series:
    series = pl.Series(name, codes, dtype=pl.Int64)
    return series.set(series < 0, None)


def _codes(key: pl.Series) -> Ints:
    """Dense codes of the values; every null is a code of its own."""
    codes = key.rank("dense").cast(pl.Int64)
    alone = pl.int_range(codes.len(), eager=True) + codes.len() + 1
    return codes.fill_null(alone).to_numpy()


def _lowest(parent: Ints, link: Ints) -> Ints:
    """For each row the lowest parent among the rows that share its link."""
    frame = pl.DataFrame({"parent": parent, "link": link})
    return frame.select(pl.col("parent").min().over("link")).to_series().to_numpy()
