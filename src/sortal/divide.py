"""Images read, checked, and divided into training, validation and test; refused where nothing can be learned, or where
the source's own splits leak.

What belongs together is found before anything is divided, so a split that is made here cannot leak. In splits that the
source declares, identical files, groups and certain near duplicates on two sides are an error; what only looks alike is
a warning.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.core.errors import IMAGE_ERROR_CODES, DataError
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.data.bursts import Bursts, find_bursts
from sortal.data.leaks import leaked_rows, shared
from sortal.data.near import Near, near_duplicates
from sortal.data.scan import scan
from sortal.data.small_pictures import small_pictures
from sortal.data.split import check_leaks, split
from sortal.data.split_file import load_split
from sortal.data.survey import Survey, survey
from sortal.data.table import COLUMNS, SPLITS, ImageTable
from sortal.data.units import together

LEAKED = "_leaked"
"""Column: whether a validation or test row belongs with a row that trains. Only where there is one."""
CERTAIN = "_certain"
"""Column: clusters of near duplicates that can hardly be anything else."""

MOST_UNREADABLE = 0.1
"""Share of files that may be unreadable; they are left out and named."""

_ALLOW = "to train all the same and measure what it flatters: data.split.leaks=allow"


def divide(table: ImageTable, recipe: Recipe, listener: Listener) -> ImageTable:
    """Scanned and split; refused with a DataError where it cannot be learned, or where declared splits leak."""
    scanned = scan(table, progress=lambda done, total: listener.progress("reading", done, total))
    _check_readable(scanned)
    _check_labels(scanned)
    if recipe.data.quality == "refuse":
        refuse_faults(scanned)
    settings = recipe.data.split
    if settings.file is not None:
        divided = load_split(scanned, Path(settings.file))
        declared = True
    else:
        related = relate(scanned, listener).table if settings.near else scanned
        divided = split(related, val=settings.val, test=settings.test, seed=recipe.seed)
        declared = sum(bool(len(scanned.split_rows(name))) for name in SPLITS) > 1
    _check_classes(divided)
    if declared and settings.leaks == "refuse":
        refuse_leaks(divided)
    leaked = leaked_rows(divided)
    marked = divided.with_columns({LEAKED: leaked}) if leaked.any() else divided
    return marked.with_findings(*check_leaks(marked))


@dataclass(frozen=True, kw_only=True)
class Related:
    """A table with what belongs together, and how that was found."""

    table: ImageTable
    survey: Survey
    near: Near
    bursts: Bursts


def relate(scanned: ImageTable, listener: Listener, features: NDArray[np.float32] | None = None) -> Related:
    """A scanned table with clusters of near duplicates and bursts, from one pass over the pixels (kept in the cache).

    `features` (N, D), of unit length, make bursts that only a network sees. Rows whose pixels cannot be decoded belong
    to nothing.
    """
    numbered = scanned.with_columns({"_row": np.arange(len(scanned))})
    seen, found = survey(numbered, progress=lambda done, total: listener.progress("comparing", done, total))
    rows = seen.frame["_row"].to_numpy()
    chosen = None if features is None else features[rows]
    near = near_duplicates(found, chosen, partial(small_pictures, seen))
    bursts = find_bursts(seen, found, chosen)
    found_sets = (near.cluster, bursts.burst, near.certain_clusters(), bursts.alike)
    columns = [_spread(codes, rows, len(scanned)) for codes in found_sets]
    alike = columns[3] if (columns[3] >= 0).any() else None
    table = together(scanned, near=columns[0], burst=columns[1], alike=alike)
    table = table.with_columns({CERTAIN: _known(columns[2])})
    table = table.with_findings(*near.findings(), *bursts.findings(seen))
    return Related(table=table, survey=found, near=near, bursts=bursts)


def refuse_faults(scanned: ImageTable) -> None:
    """Raises DataError where one picture has several labels, or more than a tenth of the files cannot be read."""
    faults = [found.message for found in scanned.findings if found.code == "conflicting_labels"]
    named = [name for found in scanned.findings if found.code == "conflicting_labels" for name in found.rows]
    unread = scanned.rejected.filter(pl.col("code").is_in(list(IMAGE_ERROR_CODES)))["name"]
    total = len(scanned) + len(unread)
    if len(unread) > MOST_UNREADABLE * total:
        faults.append(f"{len(unread):,} of {total:,} files cannot be read")
        named += unread.head(3).to_list()
    if not faults:
        return
    raise DataError(
        f"these images cannot be learned from as they are: {'; '.join(faults)}",
        where=scanned.source,
        received=", ".join(named[:4]) + (", …" if len(named) > 4 else ""),
        hint=f"look at them and repair: sortal audit {scanned.source}, then sortal fix; or, to train all the same: "
        "data.quality=allow",
    )


def refuse_leaks(table: ImageTable) -> None:
    """Raises DataError where identical files, groups or certain near duplicates are in several splits."""
    kinds = {"digest": "identical copies", "_unit": "parts of one unit", "group": "images of one group"}
    counted = {words: shared(table, link) for link, words in {**kinds, CERTAIN: "near duplicates"}.items()}
    leaked = np.any(list(counted.values()), axis=0)
    if not leaked.any():
        return
    listed = ", ".join(f"{int(rows.sum()):,} images are {words}" for words, rows in counted.items() if rows.any())
    names = table.name_series().filter(pl.Series(leaked)).head(3).to_list()
    raise DataError(
        f"the splits of this source leak: {listed} across splits, so results would flatter",
        where=table.source,
        received=", ".join(names) + (", …" if leaked.sum() > len(names) else ""),
        hint=f"divide anew: sortal split {table.source} --ignore-splits --out split.csv, and train with "
        f"data.split.file=split.csv; or remove the copies: sortal audit, then sortal fix; or, {_ALLOW}",
    )


def _spread(codes: NDArray[np.int64], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Codes (M,) of the rows (M,) among `count` rows."""
    spread = np.full(count, -1, np.int64)
    spread[rows] = codes
    return spread


def _known(codes: NDArray[np.int64]) -> pl.Series:
    series = pl.Series(codes, dtype=pl.Int64)
    return series.set(series < 0, None)


def _check_readable(scanned: ImageTable) -> None:
    if len(scanned):
        return
    codes = Counter(scanned.rejected["code"].to_list())
    raise DataError(
        "none of the images can be read",
        where=scanned.source,
        received=", ".join(f"{count:,} × {code}" for code, count in codes.most_common()) or None,
        hint=f"the first: {scanned.rejected['name'][0]}: {scanned.rejected['reason'][0]}" if codes else None,
    )


def _check_labels(table: ImageTable) -> None:
    if (table.label_array() >= 0).any():
        return
    columns = [name for name in table.frame.columns if name not in COLUMNS and not name.startswith("_")]
    named = f"name the label column, for example data.label={columns[0]}" if columns else "fill in the label column"
    raise DataError(
        "no image has a label",
        where=table.source,
        received=f"other columns: {', '.join(columns[:10])}" if columns else f"{len(table):,} images without a class",
        hint=f"put the images of each class into a folder of its own, or {named}",
    )


def _check_classes(table: ImageTable) -> None:
    """At least two classes to train on, and none that is to be recognized without ever being shown."""
    trained = np.unique(table.label_array()[table.split_rows("train")])
    if (trained >= 0).sum() < 2:
        names = ", ".join(table.labels.names[label] for label in trained if label >= 0)
        raise DataError(
            "a classifier needs training images of at least two classes",
            where=table.source,
            received=f"images of {names or 'no class'}",
            hint="put the images of each class into a folder of its own",
        )
    for found in table.findings:
        if found.code == "class_not_in_train":
            raise DataError(found.message, where=table.source, hint=found.hint)
