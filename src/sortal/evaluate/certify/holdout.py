"""The hold-out of a certificate: labelled images that the model never saw, and how often they were used before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sortal.core.bundle import Bundle
from sortal.core.errors import DataError, MachineError
from sortal.core.holdouts import Use, earlier_uses, record_use
from sortal.core.places import state_root
from sortal.core.recipe import Recipe
from sortal.core.report import Finding
from sortal.core.run import RunFolder
from sortal.data.open import images
from sortal.data.table import ImageTable
from sortal.evaluate.asked import with_asked_group
from sortal.evaluate.seen import seen_before
from sortal.runtime.classifier import Classifier

_NAMED = 5


def hold_out_table(
    source: str | Path | Sequence[str | Path] | ImageTable, bundle: Bundle | None, group: str | None
) -> ImageTable:
    """The images to certify on: the test split of a source that has one, else all of it, read as the model's were."""
    recipe = None if bundle is None else bundle.recipe
    asked = (recipe or Recipe()).data
    table = (
        source
        if isinstance(source, ImageTable)
        else images(source, label=asked.label, level=asked.level, boxes=asked.boxes, margin=asked.margin)
    )
    rows = table.split_rows("test")
    table = table.select(rows) if len(rows) else table
    return with_asked_group(table, group, asked.group)


def check_hold_out(table: ImageTable) -> None:
    """Raises DataError unless there is an image and a label."""
    if not len(table):
        hint = "give images that the model never saw, one folder a class"
        raise DataError("there is no readable image in this hold-out", where=table.source, hint=hint)
    if not (table.label_array() >= 0).any():
        hint = "a hold-out needs labels: one folder a class, or a table with a label column"
        raise DataError("no image of the hold-out has a label", where=table.source, hint=hint)


def check_known(classifier: Classifier, table: ImageTable) -> None:
    """Raises DataError where the classifier knows none of the classes."""
    used = {table.labels.names[label] for label in np.unique(table.label_array()) if label >= 0}
    if not used & set(classifier.labels.lookup()):
        theirs, ours = ", ".join(sorted(used)[:_NAMED]), ", ".join(classifier.labels.names[:_NAMED])
        hint = f"the classifier knows {ours}{' …' if len(classifier.labels) > _NAMED else ''}"
        what = "none of the classes is known to the classifier"
        raise DataError(what, where=table.source, received=f"classes {theirs}", hint=hint)


def refuse_seen(table: ImageTable, bundle: Bundle | None, run: RunFolder | None) -> None:
    """By content: what the run's split file calls train or val, and what the bundle remembers."""
    seen = seen_before(table, bundle, run)
    if not seen.any():
        return
    names = [table.name(int(row)) for row in np.flatnonzero(seen)[:_NAMED]]
    more = f" and {int(seen.sum()) - _NAMED} more" if seen.sum() > _NAMED else ""
    raise DataError(
        f"{int(seen.sum()):,} of {len(table):,} images were seen in training, validation or calibration: "
        "they cannot certify this model",
        where=table.source,
        received=", ".join(names) + more,
        hint="take them out, or collect new images; the test split of the run's split.csv was not seen",
    )


def earlier(table: ImageTable) -> tuple[list[Use], tuple[Finding, ...]]:
    """Earlier uses of these images, and a finding where they cannot be known."""
    root = state_root()
    if root is None:
        return [], ()
    try:
        return earlier_uses(root, table.frame["digest"]), ()
    except MachineError as error:
        return [], (_unrecorded(str(error)),)


def recorded(table: ImageTable, bundle_id: str) -> tuple[Finding, ...]:
    """Write this use into the ledger; a finding where that cannot be done."""
    root = state_root()
    if root is None:
        return (_unrecorded("there is no home folder and SORTAL_STATE is not set"),)
    try:
        record_use(root, table.frame["digest"], bundle=bundle_id, subject=table.source)
    except MachineError as error:
        return (_unrecorded(str(error)),)
    return ()


def uses_finding(uses: Sequence[Use], images: int) -> Finding:
    """How often images of this hold-out were used before."""
    if not uses:
        return Finding(
            code="hold_out_uses", severity="info", message="These images were never used to certify before, here."
        )
    most, models = max(use.shared for use in uses), len({use.bundle for use in uses})
    times = "once" if len(uses) == 1 else f"{len(uses)} times"
    message = (
        f"Of these {images:,} images up to {most:,} were used to certify {times} before, "
        f"for {models} {'model' if models == 1 else 'models'}, last on {uses[-1].time[:10]}."
    )
    hint = "whoever looks again after every change chooses by these images: certify the final model on new ones"
    return Finding(code="hold_out_uses", severity="warning", message=message, hint=hint)


def _unrecorded(reason: str) -> Finding:
    message = f"Uses of hold-outs cannot be counted on this machine: {reason}"
    return Finding(code="use_not_recorded", severity="warning", message=message, hint="set SORTAL_STATE to a folder")
