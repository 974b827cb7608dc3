"""The images of a benchmark: labelled ones for accuracy and flips, and encoded files for the time from bytes.

Without named images they are the run's own validation images; test images are read only where they are named, and that
is logged in the run. A run whose images are gone, and a bundle on its own, are measured without accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sortal.compress.images import Prepared, divided_images, prepare_rows
from sortal.core.bundle import Bundle
from sortal.core.errors import DataError, InputError
from sortal.core.progress import Listener
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.core.sections import DataSection
from sortal.data.open import images as open_images
from sortal.data.scan import scan
from sortal.data.table import ImageTable
from sortal.evaluate.latency import encoded_images
from sortal.evaluate.seen import seen_findings
from sortal.export.images import round_the_classes

MOST = 2_000
"""Images that every artifact answers at most, the classes in turn."""
_FILES = 16


@dataclass(frozen=True, kw_only=True)
class Images:
    """What artifacts answer; `labelled` is None where there is nothing with labels."""

    labelled: Prepared | None
    encoded: tuple[bytes, ...]
    """Image files; one drawn here where there are no others."""
    source: str
    digest: str | None
    findings: tuple[Finding, ...]


def gather(
    where: Path,
    bundle: Bundle,
    run: RunFolder | None,
    data: str | Path | Sequence[str | Path] | ImageTable | None,
    *,
    listener: Listener,
) -> Images:
    """The images of `data`, or the run's own. Raises DataError where `data` has none of the classifier's classes."""
    try:
        table, rows, notes = (
            _named(where, bundle, run, data, listener) if data is not None else _own(bundle, run, listener)
        )
    except InputError as error:
        if data is not None:
            raise
        told = Finding(
            code="no_accuracy",
            severity="info",
            message=f"Accuracy was not measured: {error.what}.",
            hint="name labelled images: sortal benchmark RUN --data holdout/",
        )
        return Images(labelled=None, encoded=(_drawn(),), source="drawn", digest=None, findings=(told,))
    labels = np.array([*bundle.labels.mapping_from(table.labels), -1], np.int64)[table.label_array()]
    rows = rows[labels[rows] >= 0]
    if not len(rows):
        hint = f"the classifier knows {', '.join(bundle.labels.names[:5])} …"
        raise DataError("no image has a class that the classifier knows", where=table.source, hint=hint)
    rows = rows[round_the_classes(labels[rows], MOST)]
    prepared, unread = prepare_rows(table, rows, labels, bundle.preprocess, listener, "images")
    if not len(prepared.labels):
        raise DataError("none of the images can be read", where=table.source)
    encoded = tuple(
        one if isinstance(one, bytes) else one.read_bytes() for one in encoded_images(table.select(rows), _FILES)
    )
    return Images(
        labelled=prepared,
        encoded=encoded or (_drawn(),),
        source=table.source,
        digest=table.content_digest,
        findings=(*notes, *unread),
    )


def _named(
    where: Path,
    bundle: Bundle,
    run: RunFolder | None,
    data: str | Path | Sequence[str | Path] | ImageTable,
    listener: Listener,
) -> tuple[ImageTable, np.ndarray[tuple[int], np.dtype[np.int64]], list[Finding]]:
    """All images that were named, or of their test split where they have one, which is then a reading of it."""
    rules = bundle.recipe.data if bundle.recipe is not None else DataSection()
    table = data if isinstance(data, ImageTable) else open_images(
        data, label=rules.label, group=rules.group, level=rules.level, boxes=rules.boxes, margin=rules.margin
    )  # fmt: skip
    table = scan(table, progress=lambda done, all: listener.progress("reading", done, all))
    test = table.split_rows("test")
    rows = test if len(test) else np.arange(len(table), dtype=np.int64)
    if run is not None and (len(test) or _is_test(table, run)):
        run.log_test_read(f"sortal benchmark on {table.source}")
    hint = "measure on images that it did not see"
    return table, rows, seen_findings(table.select(rows), bundle, run, name=where.name, hint=hint)


def _is_test(table: ImageTable, run: RunFolder) -> bool:
    """Whether any of the images is one of the run's test images, by content."""
    import csv

    with run.split_path.open(encoding="utf-8", newline="") as file:
        held = {row["digest"] for row in csv.DictReader(file) if row["split"] == "test"}
    return not held.isdisjoint(table.frame["digest"].to_list())


def _own(
    bundle: Bundle, run: RunFolder | None, listener: Listener
) -> tuple[ImageTable, np.ndarray[tuple[int], np.dtype[np.int64]], list[Finding]]:
    if run is None:
        raise InputError("a bundle alone does not say where its images are")
    table, notes = divided_images(bundle, run, None, listener=listener)
    return table, np.asarray(table.split_rows("val"), np.int64), notes


def _drawn() -> bytes:
    """A JPEG file of 640 x 480 pixels with soft shades, which takes about as long to decode as a photograph."""
    import io

    small = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
