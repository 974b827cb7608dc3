"""How well a number is known when images come in groups: several pictures of a part, a lot, a shelf, a patient.

Images of a group are right or wrong together, so that 2,485 images in 83 groups say less than 2,485 independent ones.
Every interval here is Wilson's, at the number of images that would be as informative if they were independent: the
effective sample size that the spread between groups gives (Kish 1965, "Survey sampling"; Korn and Graubard 1998,
"Confidence intervals for proportions with small expected number of positive counts estimated from survey data").
Student's t takes the place of the normal quantile, with as many degrees of freedom as there are groups that carry the
spread: one group with all the errors says little about the next group. `benchmarks/interval_coverage.py` measures how
often these intervals hold the truth, beside the percentile and studentized bootstrap of groups.

Shapes: N images, G groups, S strata (classes, slices, or one for everything).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.shares import wilson, z_score

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Interval = tuple[float, float]

_ANGLES = 4001


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the evaluated images are as a sample. `groups` (N,) holds each image's group, 0..G-1; None where images are
    independent of each other."""

    size: int
    groups: Ints | None = None
    confidence: float = 0.95

    @property
    def independent(self) -> int:
        """How many independent facts intervals count: groups, or images."""
        return self.size if self.groups is None else int(self.groups.max(initial=-1)) + 1

    def part(self, members: Bools) -> Sample:
        """The images `members` (N,) alone."""
        if self.groups is None:
            return Sample(size=int(members.sum()), confidence=self.confidence)
        return grouped(self.groups[members], confidence=self.confidence)


def grouped(groups: Ints, *, confidence: float = 0.95) -> Sample:
    """A Sample from any group numbers (N,), negative where an image is a group of its own. Without groups where every
    image is one."""
    alone = groups < 0
    keys = np.where(alone, groups.max(initial=0) + 1 + np.arange(len(groups)), groups)
    found, codes = np.unique(keys, return_inverse=True)
    kept = None if len(found) == len(groups) else codes.astype(np.int64)
    return Sample(size=len(groups), groups=kept, confidence=confidence)


def share_interval(sample: Sample, hits: Bools, members: Bools | None = None) -> Interval:
    """Interval of the share of hits (N,) among members (N,; all images by default). 0 to 1 without members."""
    inside = np.ones(len(hits), bool) if members is None else members
    low, high = share_intervals(sample, hits & inside, np.where(inside, 0, -1), 1)
    return float(low[0]), float(high[0])


def share_intervals(
    sample: Sample, hits: Bools, strata: Ints, count: int, rows: Ints | None = None
) -> tuple[Floats, Floats]:
    """Low and high (S,) of the share of hits in each stratum. `strata` (M,) is 0..S-1, negative for none of them.

    `rows` (M,) are the images that the M entries are about, where an image may count in several strata.
    """
    kept = strata >= 0
    keys, right = strata[kept], hits[kept].astype(np.float64)
    total, good = np.bincount(keys, minlength=count), np.bincount(keys, right, minlength=count)
    if sample.groups is None:
        return wilson(good, total, sample.confidence)
    groups = (sample.groups if rows is None else sample.groups[rows])[kept]
    cells, place = np.unique(keys * np.int64(sample.independent) + groups, return_inverse=True)
    owner = cells // sample.independent
    cell_total = np.bincount(place, minlength=len(cells)).astype(np.float64)
    cell_good = np.bincount(place, right, minlength=len(cells))
    share = good / np.maximum(total, 1)
    influence = (cell_good - share[owner] * cell_total) / np.maximum(total, 1)[owner]
    squares = np.bincount(owner, np.square(cell_total), minlength=count)
    low, high = _ends(
        share,
        second=_summed(owner, np.square(influence), count),
        fourth=_summed(owner, influence**4, count),
        groups=np.bincount(owner, minlength=count),
        least=np.square(total) / np.maximum(squares, 1),
        most=total.astype(np.float64),
        confidence=sample.confidence,
    )
    return np.where(total > 0, low, 0.0), np.where(total > 0, high, 1.0)


def statistic_interval(
    sample: Sample,
    value: float,
    influence: Floats,
    *,
    bounds: Interval = (0.0, 1.0),
    counted: Bools | Floats | None = None,
    mean: bool = False,
) -> Interval:
    """Interval of any statistic within `bounds`, from the influence (N,) of each image on it.

    The influence is the derivative of the statistic by the image's weight at weight 1 (for a mean over N images, its
    value minus the mean, over N; Hampel 1974); influences sum to zero. `counted` (N,) are the images that the
    statistic is about, or how much each counts; all alike by default. `mean`: it is a mean of values within the bounds,
    which cannot be known less well than from a right or wrong answer of each group.
    """
    amounts = np.ones(len(influence)) if counted is None else np.asarray(counted, np.float64)
    if not amounts.any():
        return bounds
    codes = np.arange(len(influence)) if sample.groups is None else sample.groups
    sums, sizes = _summed(codes, influence, 1), _summed(codes, amounts, 1)
    return group_interval(value, sums, sizes, bounds=bounds, confidence=sample.confidence, mean=mean)


def group_interval(
    value: float,
    influence: Floats,
    sizes: Ints | Floats,
    *,
    bounds: Interval = (0.0, 1.0),
    confidence: float = 0.95,
    mean: bool = False,
) -> Interval:
    """As `statistic_interval`, from the influence of each group (G,) and the images it counts (G,)."""
    span = bounds[1] - bounds[0]
    scaled, total = influence / span, float(sizes.sum())
    low, high = _ends(
        np.array([(value - bounds[0]) / span]),
        second=np.array([np.square(scaled).sum()]),
        fourth=np.array([(scaled**4).sum()]),
        groups=np.array([int(((sizes > 0) | (influence != 0)).sum())]),
        least=np.array([total**2 / float(np.square(sizes.astype(np.float64)).sum())]),
        most=np.array([np.inf]),
        confidence=confidence,
        floored=mean,
    )
    return bounds[0] + span * float(low[0]), bounds[0] + span * float(high[0])


def student_t(confidence: float, degrees: Floats) -> Floats:
    """Two-sided quantile of Student's t for real degrees of freedom of at least 1, elementwise: 12.7 for 0.95 and 1.

    With t = sqrt(degrees) * tan(angle) the density of the angle is proportional to cos(angle) ** (degrees - 1), which
    is summed on a grid. Beyond 1,000 degrees it is the normal quantile.
    """
    z_score(confidence)
    freedom = np.clip(np.asarray(degrees, np.float64), 1.0, 1000.0).reshape(-1, 1)
    angles = np.linspace(0.0, np.pi / 2, _ANGLES)
    density = np.cos(angles)[None, :].clip(0.0) ** (freedom - 1.0)
    steps = (density[:, 1:] + density[:, :-1]) / 2
    grown = np.concatenate([np.zeros((len(freedom), 1)), np.cumsum(steps, axis=1)], axis=1)
    found = [np.interp(confidence * one[-1], one, angles) for one in grown]
    return np.asarray(np.sqrt(freedom[:, 0]) * np.tan(found)).reshape(np.shape(degrees))


def student_t_tail(value: float, degrees: float) -> float:
    """Chance that Student's t with real degrees of freedom of at least 1 is `value` (>= 0) or more."""
    angles = np.linspace(0.0, np.pi / 2, 5 * _ANGLES)
    density = np.cos(angles).clip(0.0) ** (min(max(degrees, 1.0), 1000.0) - 1.0)
    grown = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    inside = float(np.interp(np.arctan(value / np.sqrt(degrees)), angles, grown)) / float(grown[-1])
    return max(0.0, (1.0 - inside) / 2)


def _ends(
    share: Floats,
    *,
    second: Floats,
    fourth: Floats,
    groups: Ints,
    least: Floats,
    most: Floats,
    confidence: float,
    floored: bool = True,
) -> tuple[Floats, Floats]:
    """Wilson's interval at the effective sample size, elementwise over strata.

    `second` and `fourth` are the sums of squares and fourth powers of the groups' influences, `least` the number of
    equally large groups that these are worth, `most` the images. The sample size lies between the two (`floored` False:
    it may be below `least`). Where nothing is wrong, or nothing right, or there is one group, each group is one fact.
    """
    z, some = z_score(confidence), np.maximum(groups, 2).astype(np.float64)
    spread = second > 1e-24
    variance = np.where(spread, second * some / (some - 1), 1.0)
    kurtosis = some * fourth / np.where(spread, np.square(second), 1.0)
    carried = np.clip(some / np.maximum(kurtosis - 1.0, 1e-9), 1.0, some - 1)
    size = share * (1 - share) / variance * np.square(z / student_t(confidence, carried))
    floor = np.minimum(least * np.square(z / student_t(confidence, some - 1)), most) if floored else np.full(1, 1e-3)
    known = np.clip(size, floor, np.maximum(most, floor))
    inside = (share > 0) & (share < 1)
    alike = inside & ~spread & (groups > 1) & np.isfinite(most)  # as many wrong in each group
    known = np.where(alike, most, np.where(inside & spread, known, least))
    return wilson(np.clip(share, 0.0, 1.0) * known, known, confidence)


def _summed(keys: Ints, values: Floats, count: int) -> Floats:
    """Sums of values by key, at least `count` of them."""
    return np.bincount(keys, values, minlength=count).astype(np.float64)
