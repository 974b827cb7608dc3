"""Shares as production would see them, where classes are rarer or more frequent than in the images at hand.

Each class's share is measured on its own images and the classes are mixed anew by the stated prevalence: a stratified
estimate. Without a stated prevalence the mix of the data is assumed.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.report import Metric
from sortal.evaluate.measure.grouped import Floats, Interval, Sample, share_intervals, statistic_interval
from sortal.evaluate.measure.intervals import weighted_mean_interval

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Mix:
    """The mix of classes that shares are told for."""

    shares: Floats
    """(C,) sum to 1; 0 for classes without images here."""
    missing: tuple[str, ...] = ()
    """Classes that were given a prevalence and have no image here: their share was given to the others."""


def class_mix(prevalence: Mapping[str, float], labels: LabelSet, counts: Ints) -> Mix:
    """The stated prevalence over all classes; those left out share the rest as their images (C,) do.

    Raises DataError for an unknown class, or where the stated shares are more than 1.
    """
    stated = np.full(len(labels), np.nan)
    for name, share in prevalence.items():
        stated[labels.index(name)] = share
    given = ~np.isnan(stated)
    total = float(stated[given].sum())
    if total > 1.0 + 1e-9:
        raise DataError("the prevalences are more than 1 together", where="contract.prevalence", received=f"{total:g}")
    rest = np.where(given, 0, counts).astype(np.float64)
    shares = np.where(given, np.nan_to_num(stated), (1.0 - total) * rest / max(rest.sum(), 1.0))
    shares[counts == 0] = 0.0
    if not shares.sum():
        raise DataError("no class with a prevalence has an image here", where="contract.prevalence")
    absent = [labels.names[place] for place in np.flatnonzero(given & (counts == 0) & (np.nan_to_num(stated) > 0))]
    return Mix(shares=shares / shares.sum(), missing=tuple(absent))


def image_weights(mix: Mix, labels: Ints) -> Floats:
    """(N,) how much an image counts, 1 on average: its class's share in the mix over its share among the images."""
    counts = np.bincount(labels, minlength=len(mix.shares))
    return (mix.shares * len(labels) / np.maximum(counts, 1))[labels]


def mixed_share(
    sample: Sample, mix: Mix, labels: Ints, hits: Bools, members: Bools | None = None, weights: Floats | None = None
) -> Metric:
    """Share of hits among members (N,; all images by default), with classes mixed by `mix`.

    Over all images it is the sum of prevalence times the class's share, and its interval is joined from the classes'
    own ones (Zou and Donner 2008). Among members only, it is a ratio of two such sums, and groups may reach over
    classes; then the interval also spans the one from the influence of each image within its class.
    """
    given = image_weights(mix, labels) if weights is None else weights
    inside = np.ones(len(labels), bool) if members is None else members
    base = float((given * inside).sum())
    if not base:
        return Metric(value=None, n=0)
    value = float((given * (hits & inside)).sum()) / base
    low, high = _joined(sample, mix, labels, hits, inside, given)
    if members is not None or sample.groups is not None:
        parts = (hits & inside) - value * inside
        size = len(mix.shares)
        center = np.bincount(labels, parts, size) / np.maximum(np.bincount(labels, minlength=size), 1)
        influence = given * (parts - center[labels]) / base
        own = statistic_interval(sample, value, influence, counted=given * inside, mean=True)
        low, high = min(low, own[0]), max(high, own[1])
    return Metric(value=value, low=low, high=high, n=int(inside.sum()))


def _joined(sample: Sample, mix: Mix, labels: Ints, hits: Bools, inside: Bools, weights: Floats) -> Interval:
    """Interval of the classes' shares among members, each weighted by its part in the members of the mix."""
    size = len(mix.shares)
    strata = np.where(inside, labels, -1)
    low, high = share_intervals(sample, hits, strata, size)
    counts = np.bincount(labels[inside], minlength=size)
    value = np.bincount(labels[inside], hits[inside].astype(np.float64), size) / np.maximum(counts, 1)
    part = np.bincount(labels[inside], weights[inside], size)
    return weighted_mean_interval(value, low, high, part / part.sum())
