"""The learning rate as a pure function of how far training is: a warm-up, then one of six shapes.

A time budget can change how many steps there will be, so `Pace` maps steps to progress, and the rate is a function of
progress. Shapes that are told in epochs (`step`, `cosine_restarts`) count epochs from the first step, warm-up included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sortal.core.sections import ScheduleSection

_START = 0.01
"""The first rate of a warm-up as a share of the base rate."""
_CYCLE_START = 1 / 25
"""The same of `one_cycle`."""
_USELESS = 1e-3
"""Rates below this share of the base rate hardly change a network any more."""
_ROUNDING = 1e-9
"""Progress times epochs may fall short of a whole epoch by rounding."""


def rate_at(progress: float, section: ScheduleSection, *, base: float, epochs: float) -> float:
    """The rate at `progress` in [0, 1] of all steps, of a run planned for `epochs` passes over the images.

    `warmup` of the steps lead up to `base`: from a hundredth of it in a straight line, for `one_cycle` from 1/25 along
    half a cosine. From there on:

    - cosine: half a cosine down to `floor * base` (Loshchilov and Hutter 2017); never rises again.
    - cosine_restarts: one such descent for each cycle (SGDR, the same paper); a new one begins at `base` after
      `period`, `period * (1 + period_factor)`, ... epochs.
    - one_cycle: half a cosine down to `floor * base` (Smith and Topin 2018; the momentum stays).
    - triangle: a straight line down to `floor * base`.
    - step: `base * factor ** floor(epoch / step)`, which knows no floor.
    - constant: `base`.
    """
    warm, epoch = section.warmup, progress * epochs
    if progress < warm:
        return base * _warm_up(progress / warm, section, epoch)
    done = 1.0 if warm >= 1.0 else min(1.0, (progress - warm) / (1.0 - warm))
    match section.name:
        case "cosine" | "one_cycle":
            share = _cosine(done, section.floor)
        case "cosine_restarts":
            first, length = cycle_at(section, epoch)
            begin = max(first, warm * epochs) if warm * epochs < first + length else first
            share = _cosine(max(0.0, epoch - begin) / (first + length - begin), section.floor)
        case "triangle":
            share = 1.0 - (1.0 - section.floor) * done
        case "step":
            share = _steps(section, epoch)
        case "constant":
            share = 1.0
    return base * share


def cycle_at(section: ScheduleSection, epoch: float) -> tuple[float, float]:
    """(first epoch, length in epochs) of the cycle of `cosine_restarts` that `epoch` (0 is the start) lies in."""
    first, length = 0.0, section.period
    while epoch + _ROUNDING >= first + length:
        first, length = first + length, length * section.period_factor
    return first, length


def patience_epochs(section: ScheduleSection, epoch: int, patience: int) -> int:
    """How many epochs without a better one end training after `epoch` finished epochs (counted from 1).

    With restarts the metric dips whenever the rate is high. So training ends only where a cycle ends, and only when
    all of that cycle brought nothing better; in between the answer is more than the epochs there were.
    """
    if section.name != "cosine_restarts":
        return patience
    now, _ = cycle_at(section, epoch)
    before, _ = cycle_at(section, epoch - 1)
    return max(patience, epoch - math.floor(before + _ROUNDING)) if now > before else epoch + 1


def schedule_notes(section: ScheduleSection, epochs: float, *, patience: int | None = None) -> tuple[str, ...]:
    """What somebody should know who asked for this schedule over `epochs` epochs, in plain sentences."""
    if section.name == "step":
        return _step_notes(section, epochs)
    if section.name == "cosine_restarts":
        return _restart_notes(section, epochs, patience)
    return ()


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How steps become progress: straight from (`step`, `progress`) to (`total`, 1)."""

    total: int
    """Steps that there will be."""
    step: int = 0
    progress: float = 0.0

    def at(self, step: int) -> float:
        """Progress at the beginning of `step` (the first is 0)."""
        ahead = self.total - self.step
        return 1.0 if ahead <= 0 else min(1.0, self.progress + (1.0 - self.progress) * (step - self.step) / ahead)

    def refit(self, step: int, total: int) -> Pace:
        """From `step` on there will be `total` steps in all. Progress has no jump, so neither has the rate."""
        return Pace(total=max(total, step), step=step, progress=self.at(step))


def _warm_up(done: float, section: ScheduleSection, epoch: float) -> float:
    if section.name == "one_cycle":
        return 1.0 - (1.0 - _CYCLE_START) * 0.5 * (1.0 + math.cos(math.pi * done))
    rising = _START + (1.0 - _START) * done
    return rising * _steps(section, epoch) if section.name == "step" else rising


def _cosine(done: float, floor: float) -> float:
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def _steps(section: ScheduleSection, epoch: float) -> float:
    return float(section.factor ** math.floor(epoch / section.step + _ROUNDING))


def _step_notes(section: ScheduleSection, epochs: float) -> tuple[str, ...]:
    drops = math.ceil(math.log(_USELESS) / math.log(section.factor) - _ROUNDING) if 0 < section.factor < 1 else 1
    last = drops * section.step
    if section.factor == 1.0 or last > epochs - max(1.0, 0.1 * epochs):
        return ()
    share = _steps(section, epochs)
    better = f"{epochs / (drops + 1):.3g}"
    return (
        f"The rate falls to a thousandth or less of its first value at epoch {last:g} and ends at {share:.1g} of it: "
        f"the last {epochs - last:g} of {epochs:g} epochs will hardly change anything. schedule.step={better} spreads "
        "the drops over the run.",
    )


def _restart_notes(section: ScheduleSection, epochs: float, patience: int | None) -> tuple[str, ...]:
    first, length = cycle_at(section, epochs)
    notes = []
    longest = length if first < epochs - _ROUNDING else first - cycle_at(section, epochs - 2 * _ROUNDING)[0]
    if section.warmup * epochs > section.period:
        notes.append(
            f"The warm-up takes {section.warmup * epochs:.3g} epochs, longer than the first cycle of "
            f"{section.period:g}; schedule.warmup={section.period / (4 * epochs):.2g} would leave most of that cycle."
        )
    if first + 1e-6 < epochs < first + 0.9 * length:
        before = f"{first:g} or " if first else ""
        notes.append(
            f"Training ends within a cycle, at a high rate: the cycle goes from epoch {first:g} to {first + length:g}, "
            f"training to {epochs:g}. train.epochs={before}{first + length:g} ends with a cycle."
        )
    if patience is not None and patience < longest:
        notes.append(
            f"A patience of {patience} epochs is shorter than a cycle of {longest:g}, and the metric dips after each "
            "restart: training will stop early only at the end of a cycle that brought nothing better."
        )
    return tuple(notes)
