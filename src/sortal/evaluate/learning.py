"""Learning curves: how the error falls with the images a class has, and what more labels would bring. Arrays only.

The error is fitted by a power law with a floor, a + b * n^-c (Hestness et al. 2017; Rosenfeld et al. 2020), and carried
on to twice and four times the images. How sure that is comes from fitting it again to resampled draws and resampled
validation images: the largest part of the doubt is usually that few images judge.

Shapes: P points, R draws of a point, V validation images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

EXPONENTS = np.linspace(0.05, 1.5, 59)
"""Published curves have exponents from 0.07 to 0.35 for large data, and up to about 1 for frozen features."""
_FLOORS = np.linspace(0.0, 1.0, 41)
"""As shares of the lowest error seen."""
_RESAMPLES = 400
_PSEUDO = 4.0
"""A class's own error counts as much as that of all classes when it has so many validation images."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """error(n) = floor + scale * n ** -exponent, all at least 0, and at most 1."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, images: Floats | float) -> Floats:
        """The error at so many images a class, at least 1."""
        places = np.maximum(np.asarray(images, np.float64), 1.0)
        return np.asarray(np.minimum(1.0, self.floor + self.scale * places**-self.exponent))

    def left(self, images: Floats | float, factor: float) -> Floats:
        """Share of the error that is left with `factor` times the images; 1 where there is none to lose."""
        now, then = self(images), self(np.asarray(images) * factor)
        return np.asarray(np.where(now > 0, then / np.maximum(now, 1e-12), 1.0))


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The error expected with `images` a class, and the 80 % range over resampled draws and validation images.

    `gain` is by how much it is lower than now, with its own range: what the judging images have in common cancels.
    """

    images: float
    error: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


def fit_power_law(images: Floats, errors: Floats, *, judged: int | None = None) -> PowerLaw:
    """Weighted least squares over a grid of floors and exponents; the scale that goes with each is a closed form.

    `images` (P,) are positive, `errors` (P,) between 0 and 1. `judged` is the number of images that an error was
    counted on: an error of 50 % is then less sure than one of 2 %, and weighs less (its binomial variance). With fewer
    than four different points there is no floor: three points and three numbers leave no doubt where there is much.
    """
    floors = _FLOORS * errors.min() if len(np.unique(images)) > 3 else np.zeros(1)
    weights = np.ones(len(errors)) if judged is None else _weights(errors, judged)
    shapes = images[None, :] ** -EXPONENTS[:, None]
    over = errors[None, :] - floors[:, None]
    scales = np.maximum(0.0, (shapes * weights) @ over.T / ((shapes**2) @ weights)[:, None])
    misses = ((scales[:, :, None] * shapes[:, None, :] - over[None, :, :]) ** 2) @ weights
    e, f = np.unravel_index(int(misses.argmin()), misses.shape)
    return PowerLaw(floor=float(floors[f]), scale=float(scales[e, f]), exponent=float(EXPONENTS[e]))


def project(images: Floats, wrong: Sequence[Flags], factors: Sequence[float], *, seed: int) -> list[Projection]:
    """What the error would be with `factors` times the most images tried.

    `images` (P,) a class; `wrong[p]` (R, V) says which validation images the heads of point p got wrong. The present
    error is measured; the law only says which share of it will be left.
    """
    judged = wrong[-1].shape[1]
    law = fit_power_law(images, _means(wrong), judged=judged)
    most, now = float(images[-1]), float(wrong[-1].mean())
    resampled = _resampled(images, wrong, seed)
    found = []
    for factor in factors:
        left = float(law.left(most, factor))
        errors = np.array([error * float(one.left(most, factor)) for error, one in resampled])
        gains = np.array([error for error, _ in resampled]) - errors
        error, gain = now * left, now * (1 - left)
        low, high = _range(errors, error)
        gain_low, gain_high = _range(gains, gain)
        found.append(
            Projection(
                images=most * factor,
                error=error,
                low=low,
                high=high,
                gain=gain,
                gain_low=gain_low,
                gain_high=gain_high,
            )
        )
    return found


def class_gains(law: PowerLaw, counts: Ints, wrong: Ints, held: Ints) -> Floats:
    """(C,) by how much each class's error would fall with twice its images; NaN where no image judges the class.

    `counts` are training images, `wrong` of the `held` validation images are answered wrongly. A class is too small to
    have a curve of its own, so it borrows the shape of all; and its own error, counted on few images, is drawn towards
    that of all classes, as if four more images had been judged with it.
    """
    overall = wrong.sum() / max(1, held.sum())
    errors = (wrong + _PSEUDO * overall) / (held + _PSEUDO)
    return np.where(held > 0, errors * (1.0 - law.left(counts.astype(np.float64), 2.0)), np.nan)


def points(counts: Ints) -> list[int]:
    """Images a class to try: powers of two up to what the median class has, and at last all there are."""
    typical = int(np.median(counts[counts > 0]))
    found = [2**k for k in range(12) if 2**k < 0.75 * typical]
    return [*found, typical]


def subset(labels: Ints, images: int, random: np.random.Generator) -> Ints:
    """Positions of at most `images` of each class, drawn without replacement, in order."""
    order = random.permutation(len(labels))
    shuffled = labels[order]
    sorted_by_class = np.argsort(shuffled, kind="stable")
    ranked = shuffled[sorted_by_class]
    begins = np.searchsorted(ranked, ranked, side="left")
    rank = np.arange(len(ranked)) - begins
    return np.sort(order[sorted_by_class[rank < images]])


def _weights(errors: Floats, judged: int) -> Floats:
    """Over the binomial variance; an error of 0 counts as half an image."""
    shares = np.clip(errors, 0.5 / judged, 1 - 0.5 / judged)
    weights = 1.0 / (shares * (1 - shares))
    return np.asarray(weights / weights.mean())


def _range(values: Floats, middle: float) -> tuple[float, float]:
    """The middle 80 % of `values`, and never without what they are resamples of."""
    low, high = np.quantile(values, (0.1, 0.9))
    return min(float(low), middle), max(float(high), middle)


def _means(wrong: Sequence[Flags]) -> Floats:
    return np.array([one.mean() for one in wrong])


def _resampled(images: Floats, wrong: Sequence[Flags], seed: int) -> list[tuple[float, PowerLaw]]:
    """(present error, law) of resamples. The same validation images judge all points of a resample, as they do in fact.

    Images get random weights (Rubin 1981, "The Bayesian bootstrap"), and beside them stand half an image that is wrong
    and half a right one (Jeffreys' prior): that none of 200 images is wrong does not prove that none ever will be.
    """
    random = np.random.default_rng(seed)
    judged = wrong[-1].shape[1]
    found = []
    for _ in range(_RESAMPLES):
        weights, beside = random.standard_gamma(1.0, judged), random.standard_gamma(0.5, 2)
        total = float(np.sum(weights) + np.sum(beside))
        drawn = [one[random.integers(0, len(one), len(one))] for one in wrong]
        errors = np.array([((one @ weights).mean() + beside[0]) / total for one in drawn])
        found.append((float(errors[-1]), fit_power_law(images, errors, judged=judged)))
    return found
