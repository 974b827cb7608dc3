"""Information: images that show next to nothing (blank, one color), and images without color in a set of color images.

The entropy of the luma histogram says how many different levels an image uses: 0 for a blank one, about 0.9 of its
maximum for a photograph. It is judged relative to the set too (see `flagged`), as drawings use few levels everywhere.
"""

from __future__ import annotations

import polars as pl

from sortal.data.checks.flagged import Fault, counted_finding, joined, low_outcome, percent
from sortal.data.checks.material import Material, Outcome, issues

COLORLESS = 0.004
"""Mean chroma, of one level of 255, below which an image has no color: grey metal photographed in color has more."""

_LITTLE = Fault(
    code="low_information",
    many="show next to nothing: they are blank or nearly of one color",
    all="most images of this set use few levels of brightness; only the blankest are listed",
    hint="look at them: a blank image teaches nothing",
)
_GREY = Fault(
    code="grayscale",
    many="have no color, while most images of this set have",
    all="",
    hint="a class that has more of them is told by that; train on grey images, or take color ones",
)


def check(material: Material) -> Outcome:
    """Findings and issues `low_information` (the value is the entropy) and `grayscale`."""
    entropy, limit = material.survey.frame["entropy"].to_numpy(), material.limits.low_information
    return joined(low_outcome(material, _LITTLE, entropy, limit, _told), _grey(material))


def _told(entropy: pl.Series) -> pl.Series:
    return "entropy " + percent(entropy)


def _grey(material: Material) -> Outcome:
    colorless = material.survey.frame["chroma"] < COLORLESS
    number = int(colorless.sum())
    if not number or 2 * number >= colorless.len():
        return Outcome(body={"colorless": number})
    names = material.table.name_series().filter(colorless)
    modes = material.survey.frame["mode"].filter(colorless)
    frame = issues("grayscale", "info", names, value="stored as " + modes)
    return Outcome(findings=(counted_finding(_GREY, names, colorless.len()),), issues=frame, body={"colorless": number})
