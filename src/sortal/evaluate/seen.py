"""Which images a model has seen before, by content: those of its run, and those that its bundle remembers."""

from __future__ import annotations

import csv

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle
from sortal.core.reference import read_reference
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.data.table import ImageTable

_MOST_ROWS = 1000


def seen_before(table: ImageTable, bundle: Bundle | None, run: RunFolder | None) -> NDArray[np.bool_]:
    """(N,) whether each image of a scanned table was used to fit, to choose or to calibrate the model."""
    digests = table.frame["digest"].to_list()
    fitted = {row["digest"] for row in split_rows(run) if row.get("split") in ("train", "val")}
    seen = np.array([digest is not None and digest in fitted for digest in digests], bool)
    reference = None if bundle is None else read_reference(bundle)
    return seen if reference is None else seen | reference.has_seen(digests)


def seen_findings(
    table: ImageTable, bundle: Bundle | None, run: RunFolder | None, *, name: str, hint: str
) -> list[Finding]:
    """An error where there are such images; `name` is what the model is called in it."""
    seen = np.flatnonzero(seen_before(table, bundle, run))
    if not len(seen):
        return []
    message = f"{len(seen):,} of {len(table):,} images were used to fit or choose {name}: its numbers flatter."
    rows = tuple(table.name(int(row)) for row in seen[:_MOST_ROWS])
    return [Finding(code="seen_in_training", severity="error", message=message, rows=rows, hint=hint)]


def split_rows(run: RunFolder | None) -> list[dict[str, str]]:
    """The lines of a run's split file; none where there is no run."""
    if run is None:
        return []
    with run.split_path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
