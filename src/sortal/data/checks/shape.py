"""Shape: images much longer, smaller or larger than the others.

Cropping and resizing to one input treats them badly: an odd shape loses its ends or is squeezed, a tiny image is
blown up, a huge one loses what it shows in detail.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sortal.data.checks.flagged import Fault, Floats, counted_finding, joined, low_outcome
from sortal.data.checks.material import Material, Outcome, Severity, issues

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
_OTHER = Fault(
    code="odd_size",
    many="have another size than is usual in this set",
    all="",
    hint="if they come from another source, let it not be a class of its own",
)
LEAST_FACTOR = 1.1
"""Factor in area up to which sizes count as one."""


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
    """By a large factor from the median: a warning. Outside of what is usual in the set: information."""
    frame, most = material.survey.frame, material.limits.size_ratio
    side = np.sqrt((frame["width"] * frame["height"]).to_numpy().astype(np.float64))
    factor = np.exp(2 * np.abs(np.log(side / float(np.median(side)))))
    far = factor > most
    near = ~far & _outside(side) & (factor > LEAST_FACTOR)
    return joined(_odd(material, _SIZE, "warning", far, factor), _odd(material, _OTHER, "info", near, factor))


def _outside(side: Floats) -> NDArray[np.bool_]:
    """By more than three interquartile ranges (Tukey's outer fences), which are nothing where most sides are equal."""
    low, high = np.percentile(side, [25, 75])
    return np.asarray((side < low - 3 * (high - low)) | (side > high + 3 * (high - low)))


def _odd(material: Material, fault: Fault, severity: Severity, chosen: NDArray[np.bool_], factor: Floats) -> Outcome:
    if not chosen.any():
        return Outcome()
    order = np.flatnonzero(chosen)[np.argsort(-factor[chosen], kind="stable")]
    names, odd = material.table.name_series()[order], material.survey.frame[order]
    sizes = odd["width"].cast(pl.String) + " x " + odd["height"].cast(pl.String)
    found = counted_finding(fault, names, len(factor), severity)
    frame = issues(fault.code, severity, names, score=1 - 1 / factor[order], value=sizes)
    return Outcome(findings=(found,), issues=frame)
