"""Blur: images out of focus or shaken.

Sharpness is how much of the detail is fine (see `data.look_measure.sharpness`), measured at 256 px, whatever the
contrast. It is judged relative to the set too: an image is blurry where its sharpness is below the limit and also
below 0.65 times the median of the set, so that a set of smooth steel sheets is not blurry as a whole. Images that show
next to nothing have no sharpness and are the matter of `information`.
"""

from __future__ import annotations

import polars as pl

from sortal.data.checks.flagged import Fault, low_outcome
from sortal.data.checks.material import Material, Outcome

USUAL = 0.65
"""A blur of two pixels at 256 px halves the sharpness; sharp photographs vary by a quarter around their median."""

_BLURRY = Fault(
    code="blurry",
    many="are blurry: far less fine detail than is usual in this set",
    all="most images of this set are soft; only those that are far softer than usual are listed",
    hint="look at them: take them again, or keep them if the camera will see such images",
)


def check(material: Material) -> Outcome:
    """Finding and issues `blurry`, blurriest first; the value is the sharpness, 0..1."""
    frame, limits = material.survey.frame, material.limits
    something = (frame["entropy"] >= limits.low_information).to_numpy()
    sharpness = frame["sharpness"].to_numpy()
    return low_outcome(material, _BLURRY, sharpness, limits.blurry, _told, among=something, usual=USUAL)


def _told(sharpness: pl.Series) -> pl.Series:
    return "sharpness " + sharpness.round(3).cast(pl.String)
