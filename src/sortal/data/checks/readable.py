"""Readable: files that cannot be used, because they are cut short, damaged, empty, no images, or not there.

Also JPEG files that decode although a part of them is missing: the rest of the picture is plain grey.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sortal.core.errors import IMAGE_ERROR_CODES
from sortal.core.report import Finding
from sortal.data.checks.flagged import Fault, counted_finding, joined, percent
from sortal.data.checks.material import ISSUES, Material, Outcome, issues
from sortal.data.table import MAX_NAMED_ROWS, finding

LEAST_FILLED = 0.02
"""Share of a JPEG's height or width that is plain grey from which a part of it is missing."""
MOST_INCOMPLETE = 0.25
"""Share of the images above which such grey is how they were padded."""

_GREY_END = Fault(
    code="incomplete",
    many="decode, but end in plain grey: a part of their data is missing",
    all="",
    hint="copy or download them again from where they come from",
)
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
    """Findings and issues `unreadable`, whose value is the error's code, and `incomplete`.

    Files are to be quarantined, rows without a file dropped. Rows that a reader of formats left out are issues under
    its code; it has found them itself.
    """
    rejected = material.table.rejected
    unreadable = rejected.filter(pl.col("code").is_in(list(IMAGE_ERROR_CODES)))
    counts = unreadable["code"].value_counts(sort=True).sort("count", "code", descending=[True, False])
    refused = Outcome(
        findings=tuple(_found(unreadable, code, number) for code, number in counts.rows()),
        issues=pl.concat([pl.DataFrame(schema=ISSUES), *_unreadable(unreadable), *_left_out(rejected)]),
        body={"unreadable": dict(counts.rows())},
    )
    return joined(refused, _incomplete(material))


def _found(rejected: pl.DataFrame, code: str, number: int) -> Finding:
    names = rejected["name"].filter(rejected["code"] == code).head(MAX_NAMED_ROWS)
    what = IMAGE_ERROR_CODES.get(code, "cannot be used")
    verb = "image cannot be used" if number == 1 else "images cannot be used"
    return finding("unreadable", "error", f"{number:,} {verb}, {code}: {what}", names, _HINTS.get(code, _HINT))


def _unreadable(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for key, part in rows.group_by(pl.col("code").is_in(_NO_FILE).alias("absent"), maintain_order=True):
        do = "drop" if key[0] else "quarantine"
        yield issues("unreadable", "error", part["name"], value=part["code"], do=do)


def _incomplete(material: Material) -> Outcome:
    frame = material.survey.frame
    chosen = (frame["format"] == "JPEG") & (frame["filled"] >= LEAST_FILLED)
    if not chosen.any() or int(chosen.sum()) > MOST_INCOMPLETE * chosen.len():
        return Outcome()
    names, shares = material.table.name_series().filter(chosen), frame["filled"].filter(chosen)
    rows = issues("incomplete", "warning", names, score=shares, value=percent(shares) + " grey", do="quarantine")
    return Outcome(findings=(counted_finding(_GREY_END, names, chosen.len()),), issues=rows)


def _left_out(rejected: pl.DataFrame) -> Iterator[pl.DataFrame]:
    rows = rejected.filter(~pl.col("code").is_in(list(IMAGE_ERROR_CODES)))
    for key, part in rows.group_by("code", maintain_order=True):
        yield issues(str(key[0]), "warning", part["name"], value=part["reason"])
