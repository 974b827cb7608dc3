"""Readable: files that cannot be used, because they are cut short, damaged, empty, no images, or not there."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sortal.core.errors import IMAGE_ERROR_CODES
from sortal.core.report import Finding
from sortal.data.checks.material import ISSUES, Material, Outcome, issues
from sortal.data.table import MAX_NAMED_ROWS, finding

_NO_FILE = ("missing", "not_a_file", "permission")
"""Codes of rows that leave nothing to move into quarantine."""
_HINTS = {
    "truncated": "copy or download them again from where they come from",
    "corrupt": "copy or download them again from where they come from",
    "missing": "correct the list, or bring the files back",
    "permission": "allow this user to read them",
    "format_not_allowed": "convert them to PNG, JPEG or TIFF",
    "unsupported_mode": "convert them to 8 or 16 bits of grey or RGB",
    "too_many_pixels": "cut them into parts or make them smaller",
    "too_large": "cut them into parts or make them smaller",
}
_HINT = "replace them, or let them be quarantined"


def check(material: Material) -> Outcome:
    """A finding for each kind of error and issues `unreadable` with its code as value: files are to be quarantined,
    rows without a file dropped. Rows that a reader of formats left out are issues under its code; it found them itself.
    """
    rejected = material.table.rejected
    unreadable = rejected.filter(pl.col("code").is_in(list(IMAGE_ERROR_CODES)))
    counts = unreadable["code"].value_counts(sort=True).sort("count", "code", descending=[True, False])
    return Outcome(
        findings=tuple(_found(unreadable, code, number) for code, number in counts.rows()),
        issues=pl.concat([pl.DataFrame(schema=ISSUES), *_unreadable(unreadable), *_left_out(rejected)]),
        body={"unreadable": dict(counts.rows())},
    )


def _found(rejected: pl.DataFrame, code: str, number: int) -> Finding:
    names = rejected["name"].filter(rejected["code"] == code).head(MAX_NAMED_ROWS)
    what = IMAGE_ERROR_CODES.get(code, "cannot be used")
    verb = "image cannot be used" if number == 1 else "images cannot be used"
    return finding("unreadable", "error", f"{number:,} {verb}, {code}: {what}", names, _HINTS.get(code, _HINT))


def _unreadable(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for key, part in rows.group_by(pl.col("code").is_in(_NO_FILE).alias("absent"), maintain_order=True):
        do = "drop" if key[0] else "quarantine"
        yield issues("unreadable", "error", part["name"], value=part["code"], do=do)


def _left_out(rejected: pl.DataFrame) -> Iterator[pl.DataFrame]:
    rows = rejected.filter(~pl.col("code").is_in(list(IMAGE_ERROR_CODES)))
    for key, part in rows.group_by("code", maintain_order=True):
        yield issues(str(key[0]), "warning", part["name"], value=part["reason"])
