"""Calibration: a temperature, and a bias for each class where it helps, so that 90 % sure is right nine times of ten.

Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks") never changes an answer. The bias is
vector scaling's (the same paper); it changes answers, so it is taken only where images that it was not fitted on gain
by it. Both minimize the log loss, which is convex in (1 / temperature, bias); a weak prior keeps them finite where the
classes can be separated, and near the identity where there are few images.

Shapes: N images, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import DecisionSpec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PRIOR_IMAGES = 1.0
"""The prior on the inverse temperature b is PRIOR_IMAGES * (b - 1 - log b): convex, least at 1, infinite at 0."""
RANGE = (0.02, 50.0)
"""Of the inverse temperature."""
STIFFNESSES = (3.0, 30.0, 300.0)
"""Of the bias, as the inverse variance of its normal prior; cross-validation chooses."""
FOLDS, BIAS_IMAGES, BIAS_IMAGES_A_CLASS, STANDARD_ERRORS = 5, 100, 10, 2.0
"""A bias is tried from so many images on, in all and a class; its gain has to be so many standard errors."""
_STEPS, _PRECISION = 60, 1e-9


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was fitted: answers are of softmax(logits / temperature + bias)."""

    temperature: float
    bias: tuple[float, ...] | None
    images: int
    """How many it was fitted on; 0 is the identity."""
    gain: float | None = None
    """Log loss that the bias saved on held-out images; None where none was tried."""
    gain_error: float | None = None
    """Standard error of that."""

    def decision(self) -> DecisionSpec:
        """A decision that calibrates and answers everything."""
        return DecisionSpec(temperature=self.temperature, bias=self.bias)


def calibrate(
    logits: NDArray[np.float32], labels: Ints, *, units: Ints | None = None, with_bias: bool = True
) -> Calibration:
    """Fit logits (N, C) to labels (N,), each 0..C-1. Without images it is the identity.

    Images of the same number in `units` (N,) stay in one fold where the bias is judged. `with_bias` must be False where
    logits lean towards rare classes on purpose: a bias would undo that.
    """
    if not len(labels):
        return Calibration(temperature=1.0, bias=None, images=0)
    scaled = _centered(logits)
    plain = 1.0 / _fit_scale(scaled, labels)
    enough = len(labels) >= max(BIAS_IMAGES, BIAS_IMAGES_A_CLASS * logits.shape[1])
    if not (with_bias and enough):
        return Calibration(temperature=plain, bias=None, images=len(labels))
    stiffness, gain, error = _judged(scaled, labels, np.arange(len(labels)) if units is None else units)
    if stiffness is None:
        return Calibration(temperature=plain, bias=None, images=len(labels), gain=gain, gain_error=error)
    scale, bias = _fit_with_bias(scaled, labels, stiffness)
    temperature, offsets = 1.0 / scale, tuple(float(value) for value in bias - bias.mean())
    return Calibration(temperature=temperature, bias=offsets, images=len(labels), gain=gain, gain_error=error)


def fit_temperature(logits: NDArray[np.float32], labels: Ints) -> float:
    """The temperature alone, within 1/50 to 50; 1 without images."""
    return 1.0 if not len(labels) else 1.0 / _fit_scale(_centered(logits), labels)


def logits_of(decision: DecisionSpec, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits (N, C) that `decision` made probabilities of, but for a constant in each row: the highest is 0.

    Exact but for probabilities that were too small for float32. Rows of NaN stay.
    """
    scores = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).smallest_subnormal))
    if decision.bias is not None:
        scores = scores - np.asarray(decision.bias)
    return _centered(scores * decision.temperature).astype(np.float32)


def uncalibrated(decision: DecisionSpec, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """What softmax(logits) was, (N, C), from the probabilities that `decision` made of the logits."""
    return _softmax(logits_of(decision, probabilities).astype(np.float64)).astype(np.float32)


def _fit_scale(logits: Floats, labels: Ints) -> float:
    """Newton's method on the inverse temperature, kept in a bracket: the slope of the loss rises with it."""
    own = logits[np.arange(len(labels)), labels].sum()
    low, high = RANGE
    scale = 1.0
    for _ in range(_STEPS):
        chances = _softmax(scale * logits)
        mean = (chances * logits).sum(axis=1)
        slope = mean.sum() - own + PRIOR_IMAGES * (1 - 1 / scale)
        curve = ((chances * np.square(logits)).sum(axis=1) - np.square(mean)).sum() + PRIOR_IMAGES / scale**2
        low, high = (scale, high) if slope < 0 else (low, scale)
        following = scale - slope / curve
        following = following if low < following < high else float(np.sqrt(low * high))
        if abs(following - scale) <= _PRECISION * scale:
            break
        scale = float(following)
    return scale


def _fit_with_bias(logits: Floats, labels: Ints, stiffness: float) -> tuple[float, Floats]:
    """Inverse temperature and bias (C,) together: Newton's method with halved steps, on a convex loss."""
    classes = logits.shape[1]
    scale, bias = _fit_scale(logits, labels), np.zeros(classes)
    loss = _joint_loss(logits, labels, scale, bias, stiffness)
    for _ in range(_STEPS):
        slope, curve = _joint_slopes(logits, labels, scale, bias, stiffness)
        step, size = np.linalg.solve(curve, slope), 1.0
        while size > 1e-4:
            tried = scale - size * step[0], bias - size * step[1:]
            now = _joint_loss(logits, labels, *tried, stiffness) if RANGE[0] <= tried[0] <= RANGE[1] else np.inf
            if now < loss:
                break
            size /= 2
        else:
            break
        gained, (scale, bias), loss = loss - now, tried, now
        if gained <= 1e-10 * len(labels):
            break
    return float(scale), bias


def _joint_loss(logits: Floats, labels: Ints, scale: float, bias: Floats, stiffness: float) -> float:
    prior = PRIOR_IMAGES * (scale - 1 - np.log(scale)) + stiffness / 2 * np.square(bias).sum()
    return float(_log_losses(scale * logits + bias, labels).sum() + prior)


def _joint_slopes(logits: Floats, labels: Ints, scale: float, bias: Floats, stiffness: float) -> tuple[Floats, Floats]:
    """Gradient (1 + C,) and Hessian (1 + C, 1 + C) of the loss by (scale, bias)."""
    chances = _softmax(scale * logits + bias)
    mean = (chances * logits).sum(axis=1, keepdims=True)
    over = chances.copy()
    over[np.arange(len(labels)), labels] -= 1.0
    slope = np.concatenate([[(over * logits).sum() + PRIOR_IMAGES * (1 - 1 / scale)], over.sum(0) + stiffness * bias])
    mixed = (chances * (logits - mean)).sum(axis=0)
    curve = np.empty((len(slope), len(slope)))
    curve[0, 0] = (chances * np.square(logits - mean)).sum() + PRIOR_IMAGES / scale**2
    curve[0, 1:], curve[1:, 0] = mixed, mixed
    curve[1:, 1:] = np.diag(chances.sum(axis=0) + stiffness) - chances.T @ chances
    return slope, curve


def _judged(logits: Floats, labels: Ints, units: Ints) -> tuple[float | None, float, float]:
    """The stiffness whose bias saves most log loss on held-out images, with what it saves and its standard error.

    None where that is within noise, or more held-out answers become wrong than right.
    """
    folds = _folds(units)
    plain, found = np.empty(len(labels)), np.empty((len(STIFFNESSES), len(labels)))
    right = np.empty((len(STIFFNESSES) + 1, len(labels)), bool)
    for fold in range(FOLDS):
        fitted, held = folds != fold, folds == fold
        scores = _fit_scale(logits[fitted], labels[fitted]) * logits[held]
        plain[held], right[-1, held] = _log_losses(scores, labels[held]), scores.argmax(1) == labels[held]
        for place, stiffness in enumerate(STIFFNESSES):
            scale, bias = _fit_with_bias(logits[fitted], labels[fitted], stiffness)
            scores = scale * logits[held] + bias
            found[place, held], right[place, held] = _log_losses(scores, labels[held]), scores.argmax(1) == labels[held]
    best = int(found.mean(axis=1).argmin())
    saved = plain - found[best]
    gain, error = float(saved.mean()), _standard_error(saved, units)
    helps = gain > STANDARD_ERRORS * error and right[best].sum() >= right[-1].sum()
    return (STIFFNESSES[best] if helps else None), gain, error


def _folds(units: Ints) -> Ints:
    """(N,) a fold for each image, the same for all images of a unit; the same every time."""
    names, place = np.unique(units, return_inverse=True)
    dealt = np.random.Generator(np.random.Philox(key=0)).permutation(len(names)) % FOLDS
    return np.asarray(dealt[place], np.int64)


def _standard_error(values: Floats, units: Ints) -> float:
    """Of the mean of values (N,), where only units are independent."""
    _, place = np.unique(units, return_inverse=True)
    sums = np.bincount(place, values - values.mean())
    count = max(len(sums), 2)
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(values))


def _log_losses(scores: Floats, labels: Ints) -> Floats:
    top = scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
    return np.asarray(total - scores[np.arange(len(labels)), labels])


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _centered(logits: NDArray[np.float32] | Floats) -> Floats:
    values = logits.astype(np.float64)
    return np.asarray(values - values.max(axis=1, keepdims=True))
