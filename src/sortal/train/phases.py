"""Phases: which parts of the network learn, and at which input size, as training goes on.

A phase covers a share of all steps. Small images first (Howard 2018, fastai's progressive resizing; Touvron et al. 2019
on train against test size) and few layers first ("gradual unfreezing", Howard and Ruder 2018) spend the same minutes on
more passes over the images. What a phase costs is known from its pixels until it has been measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from sortal.core.errors import RecipeError
from sortal.core.recipe import Recipe

TEST_OVER_TRAIN = 1.2
"""Input of validation and production over that of training on random crops."""
_STRIDE_PX = 32

HEAD_COST = 0.4
"""What a step costs with a frozen backbone, as a share of one that trains all of it."""
LAST_COST = 0.7
"""The same where only the last stages learn."""


class Phase(BaseModel):
    """A share of training. `keep_last` is how many of the last backbone stages learn; null means all, 0 the head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: Annotated[float, Field(gt=0.0, le=1.0)]
    size: tuple[int, int]
    """(height, width) in pixels that the network is trained on."""
    keep_last: Annotated[int, Field(ge=0)] | None = None

    @property
    def cost(self) -> float:
        """Of a step, in pixels of a full step; only ratios matter."""
        part = 1.0 if self.keep_last is None else (HEAD_COST if self.keep_last == 0 else LAST_COST)
        return part * self.size[0] * self.size[1]


def phase_at(phases: Sequence[Phase], progress: float) -> int:
    """The number of the phase at `progress` in [0, 1] of all steps."""
    end = 0.0
    for number, phase in enumerate(phases):
        end += phase.share
        if progress < end - 1e-9:
            return number
    return len(phases) - 1


def cost_ahead(phases: Sequence[Phase], progress: float, costs: Sequence[float]) -> float:
    """Mean cost of a step over what lies ahead of `progress`, where phase i costs `costs[i]` a step."""
    begin, total, ahead = 0.0, 0.0, 0.0
    for phase, cost in zip(phases, costs, strict=True):
        part = max(0.0, begin + phase.share - max(begin, progress))
        begin, total, ahead = begin + phase.share, total + part * cost, ahead + part
    return total / ahead if ahead > 0 else costs[-1]


def make_phases(recipe: Recipe, size: tuple[int, int], *, frozen: bool, tuned: bool) -> tuple[Phase, ...]:
    """The phases of a run. `frozen`: only the head learns. `tuned`: pretrained weights are being trained on.

    Sizes and unfreezing are laid over each other: `sizes` divides the steps evenly, `gradual` gives a tenth of them to
    the head, two tenths to the last stages and the rest to all. Raises RecipeError for sizes that fall.
    """
    sizes = _sizes(recipe, size, tuned=tuned and not frozen)
    steps = _unfreezing(recipe, frozen=frozen, tuned=tuned)
    cuts = sorted({*_ends([1 / len(sizes)] * len(sizes)), *_ends([share for share, _ in steps])})
    phases, begin = [], 0.0
    for end in cuts:
        middle = (begin + end) / 2
        keep = _at(steps, middle)
        phases.append(
            Phase(
                share=round(end - begin, 6), size=sizes[min(int(middle * len(sizes)), len(sizes) - 1)], keep_last=keep
            )
        )
        begin = end
    return tuple(phases)


def _sizes(recipe: Recipe, size: tuple[int, int], *, tuned: bool) -> list[tuple[int, int]]:
    """Random crops show objects larger than the centre crop does, so fine-tuning trains on a smaller input (Touvron et
    al. 2019): on 160 px for an input of 192. At 256 px such a network lost 20 points of accuracy."""
    asked = recipe.train.sizes
    if asked == "auto":
        return [_smaller(size)] if tuned else [size]
    if not asked or list(asked) != sorted(asked):
        raise RecipeError("sizes of the phases must not fall", where="train.sizes", received=str(list(asked)))
    short = min(size)
    return [(round(size[0] * side / short), round(size[1] * side / short)) for side in asked]


def _smaller(size: tuple[int, int]) -> tuple[int, int]:
    if min(size) < 2 * _STRIDE_PX:
        return size
    height, width = (max(_STRIDE_PX, round(side / TEST_OVER_TRAIN / _STRIDE_PX) * _STRIDE_PX) for side in size)
    return height, width


def _unfreezing(recipe: Recipe, *, frozen: bool, tuned: bool) -> list[tuple[float, int | None]]:
    asked = recipe.train.unfreeze
    if frozen:
        return [(1.0, 0)]
    if isinstance(asked, int):
        return [(1.0, asked)]
    if asked == "gradual" and tuned:
        return [(0.1, 0), (0.2, 2), (0.7, None)]
    return [(1.0, None)]


def _ends(shares: Sequence[float]) -> list[float]:
    total, ends = 0.0, []
    for share in shares:
        total += share
        ends.append(round(total, 6))
    return [*ends[:-1], 1.0]


def _at(steps: list[tuple[float, int | None]], progress: float) -> int | None:
    end = 0.0
    for share, keep in steps:
        end += share
        if progress < end:
            return keep
    return steps[-1][1]
