"""Privacy: images whose EXIF says where they were taken, by whom or with which device.

Whoever gets the data set gets that too. Nothing of it reaches a network or a page of Sortal: only pixels do.
"""

from __future__ import annotations

from sortal.data.checks.flagged import Fault, counted_finding, joined
from sortal.data.checks.material import Material, Outcome, issues

_HINT = "before passing them on, strip it from copies: exiftool -all= -tagsfromfile @ -orientation FOLDER"
_FAULTS = {
    "gps": Fault(code="gps_position", many="say in their EXIF where they were taken", all="", hint=_HINT),
    "personal": Fault(
        code="personal_exif",
        many="name an artist, an owner or a serial number in their EXIF",
        all="",
        hint=_HINT,
    ),
}


def check(material: Material) -> Outcome:
    """Findings and issues `gps_position` and `personal_exif`; what is told there is not repeated."""
    return joined(*(_told(material, column, fault) for column, fault in _FAULTS.items()))


def _told(material: Material, column: str, fault: Fault) -> Outcome:
    told = material.survey.frame[column]
    if not told.any():
        return Outcome()
    names = material.table.name_series().filter(told)
    found = counted_finding(fault, names, told.len())
    return Outcome(findings=(found,), issues=issues(fault.code, "warning", names))
