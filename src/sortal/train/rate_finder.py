"""The learning-rate range test: a short training at rates that grow from step to step, and what the losses say.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3. It runs on a copy of the network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.errors import RecipeError
from sortal.core.publish import publish_file
from sortal.core.sections import OptimSection
from sortal.evaluate.drawing.canvas import NEUTRAL, RIGHT, WRONG, dress, new_figure, png
from sortal.models.network import Network
from sortal.train.optim import clip, make_optimizer, set_rate
from sortal.train.randomness import torch_randomness

_SMOOTHING = 0.9
_DIVERGED = 4.0
"""The test ends where the smoothed loss is so many times its least value."""
_FALLEN = 0.85
"""A loss above this share of what it was at low rates has not fallen: batches differ by so much."""
_LEAST_STEPS = 10
_BACK, _NOISE = 0.2, 0.05


@dataclass(frozen=True, kw_only=True)
class RateCurve:
    """Rates (ascending) and the smoothed loss before the step at each; what to train with."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    suggested: float
    steepest: float
    """The rate at which the loss falls most over a step of the logarithm of the rate."""
    lowest: float
    """The rate at which the loss is least before it first climbs back; from there on training becomes unstable."""
    falls: bool = True
    """Whether the loss falls at all. Where a head was fitted before, it may be as low as so few steps can make it; then
    `lowest` is the highest rate before it rises, and a tenth of that is suggested."""


def find_rate(
    network: Network,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    section: OptimSection,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    backbone_share: float = 1.0,
    layer_decay: float = 1.0,
    seed: int = 0,
) -> RateCurve:
    """Train a copy of `network` for up to `steps` batches at rates that grow geometrically from `low` to `high`.

    `batches` gives images (N, C, H, W) and targets as `loss` takes them; it is gone through again where it is shorter.
    The rate is the head's; the top of the backbone has `backbone_share` of it, and `layer_decay` goes down from there.
    Losses are smoothed exponentially with the bias of the first steps removed, and the test ends where they reach four
    times their least. Suggested is the rate of steepest descent, but at most a tenth of that where the loss is least
    before it first climbs back.
    `network` and torch's random state stay as they are. Raises RecipeError when the loss is never a number, or for a
    range or a number of steps that makes no sense.
    """
    if not 0 < low < high or steps < _LEAST_STEPS:
        raise RecipeError(f"a range test needs 0 < low < high and at least {_LEAST_STEPS} steps", where="optim.lr")
    rates = np.geomspace(low, high, steps)
    copied = copy.deepcopy(network).train()
    optimizer = make_optimizer(copied, section, lr=low, backbone_lr=low * backbone_share, layer_decay=layer_decay)
    smooth, losses = 0.0, list[float]()
    for number, (images, targets) in zip(range(steps), _again(batches), strict=False):
        set_rate(optimizer, rates[number])
        with torch_randomness(seed, "step", index=number):
            value = _step(copied, optimizer, loss(copied(images)[0], targets), section.clip)
        smooth = _SMOOTHING * smooth + (1 - _SMOOTHING) * value
        corrected = smooth / (1 - _SMOOTHING ** (number + 1))
        if not math.isfinite(corrected) or (losses and corrected > _DIVERGED * min(losses)):
            break
        losses.append(corrected)
    if len(losses) < 2:
        raise RecipeError("the loss is no finite number even at the lowest rate", where="optim.lr", received=f"{low:g}")
    return _curve(rates[: len(losses)], np.array(losses))


def draw_rate_curve(curve: RateCurve, out: Path) -> None:
    """Draw loss over rate as PNG, the suggestion marked. Raises MachineError when the file cannot be written."""
    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    axes.plot(curve.rates, curve.losses, color=NEUTRAL, linewidth=1.6)
    for rate, name, color, style in (
        (curve.suggested, f"suggested {curve.suggested:.2g}", RIGHT, "-"),
        (curve.lowest, f"{'least loss' if curve.falls else 'begins to rise'} {curve.lowest:.2g}", WRONG, "--"),
    ):
        axes.axvline(rate, color=color, linestyle=style, linewidth=1.4, label=name)
    axes.set_xscale("log")
    dress(axes, "Learning-rate range test", "learning rate", "loss, smoothed")
    axes.legend(fontsize=9, frameon=False)
    publish_file(out, png(figure, dpi=130))


def _again(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Asked anew each time, and not kept: a hundred batches take gigabytes."""
    found = True
    while found:
        found = False
        for batch in batches:
            found = True
            yield batch


def _step(network: Network, optimizer: torch.optim.Optimizer, loss: Tensor, limit: float) -> float:
    """One step; returns the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if math.isfinite(clip(network.parameters(), limit)):
        optimizer.step()
    return loss.item()


def _calm(losses: NDArray[np.float64]) -> int:
    """How many steps there are before the loss climbs back by a fifth of its fall (and by 5 % of the first loss).

    What comes after a first spike is often a lower loss by luck; its rates are not for training.
    """
    least = np.minimum.accumulate(losses)
    climbed = losses - least > np.maximum(_BACK * (losses[0] - least), _NOISE * abs(losses[0]))
    return int(np.argmax(climbed)) if climbed.any() else len(losses)


def _curve(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> RateCurve:
    slopes = np.gradient(losses, np.log(rates))
    lowest = int(np.argmin(losses[: _calm(losses)]))
    steepest = int(np.argmin(slopes[: lowest + 1]))
    third = max(2, len(losses) // 3)
    before = float(np.median(losses[:third]))
    falls = bool(losses[lowest] < _FALLEN * before)
    if not falls:
        rises = np.flatnonzero(losses[third:] > before / _FALLEN)
        lowest = steepest = third - 1 + int(rises[0]) if len(rises) else len(losses) - 1
    suggested = max(rates[0], min(rates[steepest], rates[lowest] / 10))
    return RateCurve(
        rates=rates,
        losses=losses,
        suggested=float(f"{suggested:.2g}"),
        steepest=float(rates[steepest]),
        lowest=float(rates[lowest]),
        falls=falls,
    )
