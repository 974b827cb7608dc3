"""The regularized incomplete beta function and its inverse, elementwise: what exact bounds on shares are made of.

The continued fraction of DLMF 8.17.22, evaluated forwards as Thompson and Barnett (1986) do; on the side of the mean
where it is used it converges in about sqrt(max(a, b)) steps. Agrees with SciPy up to a + b of a million.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TINY = 1e-300
_PRECISION = 1e-14
_MOST_TERMS = 20_000
_STEPS = 100
"""Most steps of Newton's method, which rarely takes more than eight; bisection alone would end after 60."""
_CLOSE = 1e-7
"""Last step of Newton's method: the next would be its square, below what log-gamma functions resolve."""


def log_beta_cdf(x: Floats, a: Floats, b: Floats) -> Floats:
    """log I_x(a, b) for 0 < x < 1 and a, b > 0, all of one shape; of a beta variable: log P(X <= x)."""
    log_front = a * np.log(x) + b * np.log1p(-x) - log_beta(a, b)
    direct = x < (a + 1) / (a + b + 2)
    fraction = _fraction(np.where(direct, x, 1 - x), np.where(direct, a, b), np.where(direct, b, a))
    tail = log_front + np.log(fraction) - np.log(np.where(direct, a, b))
    beyond = np.log1p(-np.exp(np.minimum(np.where(direct, -1.0, tail), -_TINY)))
    found: Floats = np.where(direct, tail, beyond)
    return found


def beta_quantile(share: float, a: Floats, b: Floats) -> Floats:
    """x with I_x(a, b) = `share`, 0 < share < 1 and a, b > 0: Newton's method on log I over logit x, kept in a bracket.

    Within 1e-9 of SciPy, relative to the distance from 0 and from 1.
    """
    place = np.log(a / b)
    low, high = np.full(a.shape, -745.0), np.full(a.shape, 745.0)
    open_ones = np.arange(len(a))
    for _ in range(_STEPS):
        if not len(open_ones):
            break
        here, mine_a, mine_b = place[open_ones], a[open_ones], b[open_ones]
        value, slope = _logit_slope(here, mine_a, mine_b)
        below = value < math.log(share)
        low[open_ones[below]], high[open_ones[~below]] = here[below], here[~below]
        least, most = low[open_ones], high[open_ones]
        step = here - (value - math.log(share)) / slope
        place[open_ones] = np.where((step >= least) & (step <= most), step, (least + most) / 2)
        open_ones = open_ones[np.abs(place[open_ones] - here) > _CLOSE]
    return np.asarray(1 / (1 + np.exp(-place)))


def _logit_slope(place: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """log I and its derivative at logit x = `place`."""
    x = np.clip(1 / (1 + np.exp(-place)), _TINY, 1 - 1e-16)
    value = log_beta_cdf(x, a, b)
    log_density = a * np.log(x) + b * np.log1p(-x) - log_beta(a, b)
    return value, np.maximum(np.exp(np.minimum(log_density - value, 700.0)), _TINY)


def log_beta(a: Floats, b: Floats) -> Floats:
    """log B(a, b), elementwise."""
    return log_gamma(a) + log_gamma(b) - log_gamma(a + b)


def log_gamma(a: Floats) -> Floats:
    """log of the gamma function, elementwise."""
    return np.array([math.lgamma(value) for value in a.ravel().tolist()]).reshape(a.shape)


def _fraction(x: Floats, a: Floats, b: Floats) -> Floats:
    """The continued fraction elementwise; elements leave the loop as they converge."""
    found = np.ones_like(x)
    left = np.arange(x.size)
    c, d = np.ones_like(x), 1 / _safe(1 - (a + b) * x / (a + 1))
    h = d.copy()
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / _safe(1 + even * d), _safe(1 + even / c)
        h = h * d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / _safe(1 + odd * d), _safe(1 + odd / c)
        h = h * d * c
        going = np.abs(d * c - 1) > _PRECISION
        if not going.all():
            found[left[~going]] = h[~going]
            left = left[going]
            x, a, b, c, d, h = (part[going] for part in (x, a, b, c, d, h))
            if not len(left):
                break
    found[left] = h
    return found


def _safe(value: Floats) -> Floats:
    return np.where(np.abs(value) < _TINY, _TINY, value)
