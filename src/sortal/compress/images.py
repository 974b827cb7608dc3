"""Which images set the ranges of int8 and which judge it: the run's own training and validation images, where they
still are, else those that are given.

Calibration images go round the classes, so that rare classes are seen too. Images whose class the classifier does not
know say nothing about it and are left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle
from sortal.core.errors import DataError, InputError
from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.core.sections import DataSection
from sortal.data.open import images
from sortal.data.remote import is_remote
from sortal.data.scan import scan
from sortal.data.split import split
from sortal.data.table import ImageTable, finding
from sortal.export.images import round_the_classes
from sortal.runtime.feed import prepared_batches
from sortal.runtime.sources import items_of
from sortal.runtime.threads import allowed_cpus

Ints = NDArray[np.int64]

FEWEST = 10
"""Calibration images below which the ranges would be those of single images."""
MOST_JUDGED = 2_000
"""Validation images that every candidate answers; more would cost minutes and change little."""
MOST_FURTHER = 500
"""Training images beside them that candidates within the budget answer too."""
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """N labelled images at the network's size."""

    pixels: Pixels
    """(N, height, width, channels), not yet normalized."""
    labels: Ints
    """(N,) indices into the classifier's classes."""
    names: tuple[str, ...]
    groups: Ints | None
    """(N,) which images belong together; None where each stands alone."""
    digests: tuple[str, ...] = ()
    """SHA-256 of their files, where those were read."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What ranges are taken from, and what candidates are judged on."""

    calibration: Prepared
    judged: Prepared
    source: str
    digest: str
    findings: tuple[Finding, ...]
    table: ImageTable | None = None
    """All images with their splits, where training may use them too."""
    labels: Ints | None = None
    """(R,) of the table's rows, indices into the classifier's classes, -1 where it knows none."""


def gather_images(
    bundle: Bundle,
    run: RunFolder | None,
    source: str | Path | Sequence[str | Path] | ImageTable | None,
    *,
    count: int,
    listener: Listener,
) -> Material:
    """About `count` calibration images and the validation images, decoded and resized.

    Without `source` they are the run's own. Images that the run knows keep their split; others are divided in halves.
    Raises InputError where there is no source, DataError where it holds too few images of the classifier's classes.
    """
    table, notes = divided_images(bundle, run, source, listener=listener)
    labels = np.array([*bundle.labels.mapping_from(table.labels), -1], np.int64)[table.label_array()]
    if not (labels >= 0).any():
        hint = f"the classifier knows {', '.join(bundle.labels.names[:5])} …"
        raise DataError("no image has a class that the classifier knows", where=table.source, hint=hint)
    chosen = {}
    for name, most in (("train", count), ("val", MOST_JUDGED)):
        rows = table.split_rows(name)
        rows = rows[labels[rows] >= 0]
        chosen[name] = rows[round_the_classes(labels[rows], most)]
    _require(table, len(chosen["train"]), len(chosen["val"]))
    parts, unread = {}, list[Finding]()
    for name, stage in (("train", "calibration images"), ("val", "validation images")):
        parts[name], found = prepare_rows(table, chosen[name], labels, bundle.preprocess, listener, stage)
        unread += found
    _require(table, len(parts["train"].labels), len(parts["val"].labels))
    return Material(
        calibration=parts["train"],
        judged=parts["val"],
        source=table.source,
        digest=table.content_digest,
        findings=(*notes, *unread, *_absent(bundle, parts["train"].labels), *_fitted(run)),
        table=table,
        labels=labels,
    )


def further_images(material: Material, spec: PreprocessSpec, listener: Listener) -> Prepared | None:
    """Training images that set no ranges, spread evenly: how far answers move is seen on them too, since that asks for
    no label. None where there are none."""
    table, labels = material.table, material.labels
    if table is None or labels is None:
        return None
    used, digests = set(material.calibration.digests), table.frame["digest"].to_list()
    rows = [row for row in table.split_rows("train").tolist() if labels[row] >= 0 and digests[row] not in used]
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_FURTHER)).astype(np.int64))
    found, _ = prepare_rows(table, np.array(rows, np.int64)[chosen], labels, spec, listener, "further images")
    return found if len(found.labels) else None


def divided_images(
    bundle: Bundle,
    run: RunFolder | None,
    source: str | Path | Sequence[str | Path] | ImageTable | None,
    *,
    listener: Listener,
) -> tuple[ImageTable, list[Finding]]:
    """The images of `gather_images`, scanned (a table that was scanned is not read again) and with their splits.

    Raises InputError where there is no source.
    """
    table = _opened(bundle, run, source)
    if "_width" not in table.frame.columns:
        table = scan(table, progress=lambda done, all: listener.progress("reading", done, all))
    return _divided(table, run)


def prepare_rows(
    table: ImageTable, rows: Ints, labels: Ints, spec: PreprocessSpec, listener: Listener, stage: str
) -> tuple[Prepared, list[Finding]]:
    """The `rows` of a table as the network takes them; images that cannot be read are left out and named."""
    part = table.select(rows)
    pixels, kept, failed = list[Pixels](), list[int](), list[int]()
    for batch in prepared_batches(items_of(part), spec, batch=_BATCH, workers=allowed_cpus()):
        pixels.append(batch.pixels)
        kept += batch.rows
        failed += batch.errors
        listener.progress(stage, batch.end, len(part))
    names, digests = part.names(), part.frame["digest"].to_list()
    keys = part.frame["group"].to_list()
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    alone = all(key is None for key in keys)
    groups = (
        None if alone else np.array([numbers[k] if k is not None else -1 - i for i, k in enumerate(keys)], np.int64)
    )
    found = []
    if failed:
        message = f"{len(failed)} {stage} could not be read and were left out."
        found.append(finding("unreadable", "warning", message, [names[row] for row in failed]))
    prepared = Prepared(
        pixels=np.concatenate(pixels) if pixels else np.zeros((0, *spec.size, spec.channels), np.uint8),
        labels=labels[rows][kept],
        names=tuple(names[row] for row in kept),
        digests=tuple(digests[row] for row in kept),
        groups=None if groups is None else groups[kept],
    )
    return prepared, found


def _opened(
    bundle: Bundle, run: RunFolder | None, source: str | Path | Sequence[str | Path] | ImageTable | None
) -> ImageTable:
    if isinstance(source, ImageTable):
        return source
    rules = bundle.recipe.data if bundle.recipe is not None else DataSection()
    where = source if source is not None else _origin(bundle, run)
    return images(
        where, label=rules.label, group=rules.group, level=rules.level, boxes=rules.boxes, margin=rules.margin
    )


def _origin(bundle: Bundle, run: RunFolder | None) -> str | list[str]:
    """Where the run's images came from. Raises InputError where nobody knows, or they are gone."""
    hint = "name labelled images: sortal compress RUN IMAGES compress.int8=true"
    found = None
    if run is not None and run.state_path.is_file():
        found = json.loads(run.state_path.read_text(encoding="utf-8")).get("origin", {}).get("source")
    if not isinstance(found, str | list) or not found:
        raise InputError("nothing says where the training images are", where=str(bundle.path), hint=hint)
    listed = [found] if isinstance(found, str) else found
    gone = [path for path in listed if not is_remote(path) and not Path(path).exists()]
    if gone:
        raise InputError("the training images are not where they were", where=gone[0], hint=hint)
    return found


def _divided(table: ImageTable, run: RunFolder | None) -> tuple[ImageTable, list[Finding]]:
    """The table with the run's own split where that knows its images, else with its own, else in halves."""
    if run is not None and run.split_path.is_file():
        known = _as_in_run(table, run.split_path)
        if len(known.split_rows("train")) and len(known.split_rows("val")):
            return known, []
    if len(table.split_rows("train")) and len(table.split_rows("val")):
        return table, []
    fresh = table.with_columns({"split": [None] * len(table)})
    message = "These images have no split of their own: half of them set the ranges, the other half judges."
    return split(fresh, val=0.5, test=0.0, seed=0), [finding("divided", "info", message, [])]


def _as_in_run(table: ImageTable, path: Path) -> ImageTable:
    """The table with splits and groups of the run's images, recognized by content alone; other images have no split."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row["digest"]: row for row in csv.DictReader(file)}
    found = [rows.get(digest, {}) for digest in table.frame["digest"]]
    columns = {name: [row.get(name) or None for row in found] for name in ("split", "group")}
    return table.with_columns(columns)


def _require(table: ImageTable, calibration: int, judged: int) -> None:
    if calibration < FEWEST:
        hint = "name more labelled images of the classifier's classes"
        raise DataError(
            f"int8 needs {FEWEST} calibration images at least", where=table.source, received=str(calibration), hint=hint
        )
    if not judged:
        hint = "name images with a validation split"
        raise DataError("there is no validation image to judge by", where=table.source, hint=hint)


def _absent(bundle: Bundle, labels: Ints) -> list[Finding]:
    names = [name for number, name in enumerate(bundle.labels.names) if number not in set(labels.tolist())]
    if not names:
        return []
    message = f"{len(names)} classes have no calibration image; their activations may lie outside the ranges."
    return [finding("classes_not_calibrated", "warning", message, names)]


def _fitted(run: RunFolder | None) -> list[Finding]:
    """Whether the judging images joined training in the end, so that both networks know them."""
    if run is None or not run.plan_path.is_file():
        return []
    if json.loads(run.plan_path.read_text(encoding="utf-8")).get("refit") is not True:
        return []
    message = "The final head was fitted on the validation images too; on images never seen, int8 may cost more."
    hint = "hold both against test images once: sortal compare"
    return [Finding(code="judged_on_fitted", severity="warning", message=message, hint=hint)]
