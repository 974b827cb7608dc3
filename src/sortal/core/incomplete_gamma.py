"""The regularized incomplete gamma function and its inverse, elementwise: bounds on sums of rare events.

Below the mean the power series of DLMF 8.11.4, above it the continued fraction of DLMF 8.9.2 as Thompson and Barnett
(1986) evaluate it. Agrees with SciPy up to shapes of a million.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sortal.core.incomplete_beta import log_gamma

Floats = NDArray[np.float64]

_TINY = 1e-300
_PRECISION = 1e-14
_MOST_TERMS = 20_000
_STEPS = 100
_CLOSE = 1e-8


def log_gamma_cdf(x: Floats, a: Floats) -> Floats:
    """log P(a, x) for x > 0 and a > 0, each (M,): log P(X <= x) of a gamma variable of shape a, scale 1."""
    front = a * np.log(x) - x - log_gamma(a)
    found = np.empty(x.shape)
    below = x < a + 1
    found[below] = front[below] + np.log(_series(x[below], a[below]))
    above = front[~below] + np.log(_fraction(x[~below], a[~below]))
    found[~below] = np.log1p(-np.exp(np.minimum(above, -_TINY)))
    return found


def gamma_quantile(share: float, a: Floats) -> Floats:
    """x with P(a, x) = `share`, 0 < share < 1 and a > 0 (M,): Newton's method over log x, kept in a bracket."""
    goal = np.log(share)
    place = _start(share, a)
    low, high = np.full(a.shape, -700.0), np.full(a.shape, 700.0)
    left = np.arange(len(a))
    for _ in range(_STEPS):
        if not len(left):
            break
        here, shape = place[left], a[left]
        x = np.exp(here)
        value = log_gamma_cdf(x, shape)
        slope = np.exp(np.clip(shape * here - x - log_gamma(shape) - value, -700.0, 700.0))
        below = value < goal
        low[left[below]], high[left[~below]] = here[below], here[~below]
        step, least, most = here - (value - goal) / slope, low[left], high[left]
        place[left] = np.where((step >= least) & (step <= most), step, (least + most) / 2)
        left = left[np.abs(place[left] - here) > _CLOSE]
    found: Floats = np.exp(place)
    return found


def _start(share: float, a: Floats) -> Floats:
    """Wilson and Hilferty's approximation where it is positive; for small shapes the leading term of the series."""
    z = NormalDist().inv_cdf(share)
    root = 1 - 1 / (9 * a) + z / (3 * np.sqrt(a))
    small = (np.log(share) + log_gamma(a + 1)) / a
    near = np.log(a) + 3 * np.log(np.maximum(root, 1e-3))
    return np.asarray(np.where((a < 1) | (root < 0.2), np.maximum(small, -600.0), near))


def _series(x: Floats, a: Floats) -> Floats:
    """sum over i of x^i / (a (a + 1) ... (a + i)), elementwise."""
    term: Floats = 1 / a
    total = term.copy()
    for i in range(1, _MOST_TERMS):
        term = term * x / (a + i)
        total = total + term
        if not (term > _PRECISION * total).any():
            break
    return total


def _fraction(x: Floats, a: Floats) -> Floats:
    b = x + 1 - a
    c, d = np.full(x.shape, 1 / _TINY), 1 / _safe(b)
    h = d.copy()
    for i in range(1, _MOST_TERMS):
        numerator = -i * (i - a)
        b = b + 2
        d = 1 / _safe(numerator * d + b)
        c = _safe(b + numerator / c)
        h = h * d * c
        if not (np.abs(d * c - 1) > _PRECISION).any():
            break
    return h


def _safe(value: Floats) -> Floats:
    return np.where(np.abs(value) < _TINY, _TINY, value)
