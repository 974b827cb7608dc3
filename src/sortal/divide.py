"""Images read once, checked, and divided into training, validation and test; refused where nothing can be learned."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sortal.core.errors import DataError
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.data.scan import scan
from sortal.data.split import check_leaks, split
from sortal.data.table import COLUMNS, ImageTable


def divide(table: ImageTable, recipe: Recipe, listener: Listener) -> ImageTable:
    """Scanned and split; refused where it cannot be learned."""
    scanned = scan(table, progress=lambda done, total: listener.progress("reading", done, total))
    _check_readable(scanned)
    _check_labels(scanned)
    divided = split(scanned, val=recipe.data.split.val, test=recipe.data.split.test, seed=recipe.seed)
    _check_classes(divided)
    return divided.with_findings(*check_leaks(divided))


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
