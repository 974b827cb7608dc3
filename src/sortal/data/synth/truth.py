"""What is known of every drawn picture, as the tables that are written beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from sortal.data.synth.marks import box_px
from sortal.data.synth.options import SynthOptions
from sortal.data.synth.plan import Shot
from sortal.data.synth.render import extent_mm, marks_of

TRUTH_COLUMNS = (
    "path", "label", "true_label", "mislabeled", "kind", "size", "finish", "variant", "defect",
    "sequence", "group", "burst_frame", "duplicate_of", "duplicate_kind", "corrupt", "new_class",
)  # fmt: skip
MARK_COLUMNS = (
    "path", "true_label", "mark", "kind", "grade", "left", "top", "right", "bottom", "length_mm", "width_mm", "depth_mm"
)  # fmt: skip


def truth_table(plan: Sequence[Shot]) -> str:
    """CSV with TRUTH_COLUMNS, one row a picture."""
    paths = {shot.number: shot.path for shot in plan}
    return _table(TRUTH_COLUMNS, (_truth_row(shot, paths) for shot in plan))


def marks_table(plan: Sequence[Shot], options: SynthOptions) -> str:
    """CSV with MARK_COLUMNS, one row a mark, the worst of a picture first; pictures without a mark have none.

    The box is in pixels, right and bottom exclusive, cut off at the border; near duplicates may be one pixel off.
    """
    return _table(MARK_COLUMNS, (row for shot in plan for row in _mark_rows(shot, options)))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _truth_row(shot: Shot, paths: dict[int, str]) -> tuple[str | int, ...]:
    part = shot.part
    source = "" if shot.repeats is None else paths[shot.repeats]
    repeated = "" if shot.repeats is None else ("near" if shot.near else "exact")
    labels = (shot.path, shot.label, shot.true_label, int(shot.label != shot.true_label))
    attributes = (part.kind, part.size, part.finish, part.variant, shot.grade)
    return (*labels, *attributes, shot.number, shot.group, shot.burst, source, repeated, shot.corruption,
            int(shot.new_class))  # fmt: skip


def _mark_rows(shot: Shot, options: SynthOptions) -> Iterator[tuple[str | int, ...]]:
    marks = marks_of(shot.part, seed=options.seed, specimen=shot.specimen, what=shot.grade, size_px=options.size)
    for number, mark in enumerate(marks):
        box = box_px(mark, extent_mm(options.size), options.size)
        measures = (f"{mark.length_mm:.2f}", f"{mark.width_mm:.2f}", f"{mark.depth_mm:.3f}")
        yield (shot.path, shot.true_label, number, mark.kind, mark.grade, *box, *measures)
