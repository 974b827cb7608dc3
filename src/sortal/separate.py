"""The story of `sortal split`: find what belongs together, divide, seal, write the file, say what was done and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.progress import Listener
from sortal.core.report import Finding, Metric, Report, Table
from sortal.data.folds import FOLD, with_folds
from sortal.data.formats.classes import split_counts
from sortal.data.groups import Proposal, propose_groups, with_exif_columns
from sortal.data.grow import grow_split
from sortal.data.open import with_group
from sortal.data.scan import scan
from sortal.data.split import check_leaks, split
from sortal.data.split_file import LOCK, load_split, lock_test, save_split, sealed
from sortal.data.table import SPLITS, ImageTable, finding
from sortal.data.units import kept_together, units
from sortal.divide import Related, relate

SHOWN_PROPOSALS = 3


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How to divide. `val` and `test` are shares of the images; `folds` 0 makes none."""

    group: str | None = None
    val: float = 0.15
    test: float = 0.15
    folds: int = 0
    seed: int = 0
    lock: bool = False
    ignore_splits: bool = False


def separate(
    opened: ImageTable,
    out: Path,
    *,
    wish: Wish | None = None,
    model: Path | None = None,
    listener: Listener,
) -> Report:
    """Divide the images and write the split file `out`; a Report of kind `split`.

    A file that is there and locked is grown: what it knows stays where it is. Any other is replaced. Raises DataError
    for a source that cannot be divided, a group that is not there, a locked file that was altered.
    """
    locked = out.is_file() and sealed(out).height > 0
    wish = wish or Wish()
    scanned = scan(opened, progress=lambda done, total: listener.progress("reading", done, total))
    if not len(scanned):
        raise DataError("none of the images can be read", where=scanned.source)
    if wish.ignore_splits:
        scanned = scanned.with_columns({"split": [None] * len(scanned)})
    related = relate(scanned, listener, None if model is None else embeddings(model, scanned, listener))
    table = _grouped(related, wish.group)
    shares = {"val": wish.val, "test": wish.test}
    divided = grow_split(table, out, **shares, seed=wish.seed) if locked else split(table, **shares, seed=wish.seed)
    if wish.folds:
        divided = with_folds(divided, wish.folds, seed=wish.seed)
    if wish.lock or locked:
        divided = lock_test(divided)
    gone = sealed(out) if locked else None
    if gone is not None:
        gone = gone.filter(~gone["digest"].is_in(divided.frame["digest"].implode()))
    save_split(divided, out, gone=gone)
    load_split(divided, out)
    return _report(divided, related, wish, out)


def embeddings(model: Path, table: ImageTable, listener: Listener) -> NDArray[np.float32]:
    """(N, D) features by a run or bundle, of unit length; zeros where an image cannot be read."""
    from sortal.runtime.classifier import open_classifier

    with open_classifier(model) as classifier:
        _, found = classifier.predict_outputs(
            table, progress=lambda done, total: listener.progress("embedding", done, total)
        )
    filled = np.nan_to_num(found)
    return np.asarray(filled / np.maximum(np.linalg.norm(filled, axis=1, keepdims=True), 1e-12), np.float32)


def _grouped(related: Related, group: str | None) -> ImageTable:
    table = related.table
    if group is None:
        return table
    return with_group(with_exif_columns(table, related.survey) if group in ("camera", "day") else table, group)


def _report(table: ImageTable, related: Related, wish: Wish, out: Path) -> Report:
    kept = units(table)
    metrics = {
        "images": Metric(value=len(table)),
        **{name: Metric(value=len(table.split_rows(name))) for name in SPLITS},
        "units": Metric(value=len(np.unique(kept))),
        "largest_unit": Metric(value=int(np.bincount(kept).max())),
    }
    proposals = propose_groups(related.table, related.survey) if wish.group is None else ()
    return Report(
        kind="split",
        subject=table.source,
        data_digest=table.content_digest,
        metrics=metrics,
        tables={"together": together_table(table), "classes": _classes(table), **_folds(table)},
        findings=(*table.findings, *check_leaks(table), *_locked(table), *_proposed(proposals)),
        paths={"split": str(out)},
        body={"val": wish.val, "test": wish.test, "folds": wish.folds, "seed": wish.seed, "group": wish.group},
    )


def together_table(table: ImageTable) -> Table:
    """What was kept together, and how much of it."""
    rows = tuple((words, sets, images) for words, (sets, images) in kept_together(table).items())
    return Table(columns=("because they are", "sets", "images"), rows=rows)


def _classes(table: ImageTable) -> Table:
    counts = split_counts(table)
    rows = tuple((name, row["all"], *(row.get(part, 0) for part in (*SPLITS, ""))) for name, row in counts.items())
    return Table(columns=("class", "images", *SPLITS, "in none"), rows=rows)


def _folds(table: ImageTable) -> dict[str, Table]:
    if FOLD not in table.frame.columns:
        return {}
    counts = table.frame[FOLD].drop_nulls().value_counts(sort=False).sort(FOLD)
    return {"folds": Table(columns=("fold", "images"), rows=tuple(counts.iter_rows()))}


def _locked(table: ImageTable) -> list[Finding]:
    if LOCK not in table.frame.columns:
        return []
    count = table.frame[LOCK].count()
    hint = "add images and run the same command again: the sealed ones stay the test"
    return [finding("test_locked", "info", f"{count} test images are sealed", (), hint)]


def _proposed(proposals: tuple[Proposal, ...]) -> list[Finding]:
    useful = [proposal for proposal in proposals if proposal.useless is None][:SHOWN_PROPOSALS]
    return [
        finding(
            "group_proposed",
            "info",
            f"{proposal.groups} groups by {proposal.key} ({proposal.example})",
            (),
            f"if images of one such group belong together: --group '{proposal.pattern}'",
        )
        for proposal in useful
    ]
