"""Shape: images much longer, smaller or larger than the others.

Cropping and resizing to one input treats them badly: an odd shape loses its ends or is squeezed, a tiny image is
blown up, a huge one loses what it shows in detail.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from sortal.data.checks.flagged import Fault, counted_finding, joined, low_outcome
from sortal.data.checks.material import Material, Outcome, issues

_ASPECT = Fault(
    code="odd_aspect_ratio",
    many="are far longer than wide, or far wider than long",
    all="most images of this set are long strips; only those that are far longer than usual are listed",
    hint="cut out the part that counts, or set input.resize=pad",
)
_SIZE = Fault(
    code="odd_size",
    many="are far smaller or larger than the usual image of this set",
    all="",
    hint="a tiny image may be a thumbnail, a huge one an uncut original: bring them to one scale",
)


def check(material: Material) -> Outcome:
    """Findings and issues `odd_aspect_ratio` and `odd_size`; the values are the sides and width x height."""
    if not len(material.survey):
        return Outcome()
    return joined(_aspect(material), _size(material))


def _aspect(material: Material) -> Outcome:
    width, height = (material.survey.frame[side].to_numpy() for side in ("width", "height"))
    ratio = np.minimum(width, height) / np.maximum(width, height)
    return low_outcome(material, _ASPECT, ratio, material.limits.aspect, _told)


def _told(ratio: pl.Series) -> pl.Series:
    return "sides 1 : " + (1 / ratio).round(1).cast(pl.String)


def _size(material: Material) -> Outcome:
    frame, most = material.survey.frame, material.limits.size_ratio
    area = (frame["width"] * frame["height"]).cast(pl.Float64)
    factor = np.exp(np.abs(np.log(area.to_numpy() / float(np.median(area)))))
    order = np.flatnonzero(factor > most)
    order = order[np.argsort(-factor[order], kind="stable")]
    if not order.size:
        return Outcome()
    names, odd = material.table.name_series()[order], frame[order]
    sizes = odd["width"].cast(pl.String) + " x " + odd["height"].cast(pl.String)
    found = issues("odd_size", "warning", names, score=1 - most / factor[order], value=sizes)
    return Outcome(findings=(counted_finding(_SIZE, names, len(material.survey)),), issues=found)
