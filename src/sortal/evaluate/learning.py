"""Learning curves: how the error falls with the images a class has, and what more labels would bring. Arrays only.

The error is fitted by a power law with a floor, a + b * n^-c (Hestness et al. 2017; Rosenfeld et al. 2020), and carried
on to twice and four times the images. How sure that is comes from fitting it again to resampled draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EXPONENTS = np.linspace(0.05, 1.5, 59)
_FLOORS = np.linspace(0.0, 1.0, 41)
"""As shares of the lowest error seen."""
_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """error(n) = floor + scale * n ** -exponent, all at least 0."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, images: float) -> float:
        return float(min(1.0, self.floor + self.scale * images**-self.exponent))


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The error expected with `images` a class, and the 80 % range of refits to resampled draws."""

    images: float
    error: float
    low: float
    high: float


def fit_power_law(images: Floats, errors: Floats) -> PowerLaw:
    """Least squares over a grid of floors and exponents; the scale that goes with each is a closed form.

    `images` (P,) are positive, `errors` (P,) between 0 and 1. With fewer than three different points the floor is 0.
    """
    floors = _FLOORS * errors.min() if len(np.unique(images)) > 2 else np.zeros(1)
    best, found = np.inf, PowerLaw(floor=0.0, scale=float(errors.mean()), exponent=0.0)
    for exponent in _EXPONENTS:
        shape = images**-exponent
        for floor in floors:
            scale = max(0.0, float(shape @ (errors - floor) / (shape @ shape)))
            miss = float(np.square(floor + scale * shape - errors).sum())
            if miss < best:
                best, found = miss, PowerLaw(floor=float(floor), scale=scale, exponent=float(exponent))
    return found


def project(images: Floats, draws: Sequence[Floats], factors: Sequence[float], *, seed: int) -> list[Projection]:
    """What the error would be with `factors` times the most images tried.

    `images` (P,) a class; `draws[p]` the errors of the draws at point p. Ranges: each resample draws as many errors at
    every point with replacement.
    """
    law = fit_power_law(images, np.array([draw.mean() for draw in draws]))
    random = np.random.default_rng(seed)
    laws = [
        fit_power_law(images, np.array([random.choice(draw, len(draw)).mean() for draw in draws]))
        for _ in range(_RESAMPLES)
    ]
    found = []
    for factor in factors:
        place = float(images[-1] * factor)
        low, high = np.quantile([one(place) for one in laws], (0.1, 0.9))
        found.append(Projection(images=place, error=law(place), low=float(low), high=float(high)))
    return found


def class_gains(law: PowerLaw, counts: Ints, errors: Floats) -> Floats:
    """(C,) by how much each class's error would fall with twice its images: its present error times the share by which
    the whole curve falls there. NaN where a class has no image to judge by.

    A class is too small to have a curve of its own, so it borrows the shape of all.
    """
    present = np.array([law(max(1.0, float(n))) for n in counts])
    doubled = np.array([law(max(1.0, 2.0 * float(n))) for n in counts])
    gains: Floats = errors * np.where(present > 0, 1.0 - doubled / np.maximum(present, 1e-12), 0.0)
    return gains


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
