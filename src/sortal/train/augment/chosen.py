"""TrivialAugment and RandAugment: a crop and a mirror image, then one or two operations drawn from a table.

`trivial`: one operation at a random level (Müller and Hutter 2021, arXiv:2103.10158, the wide space). `rand`: two at
level 9 of 30 (Cubuk et al. 2020, arXiv:1909.13719). Geometric operations come before the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts, Draw
from sortal.train.augment.basic import fitted
from sortal.train.augment.operations import Operation, Step, change, choose_step, move, table
from sortal.train.augment.ranges import Ranges
from sortal.train.augment.varied import Varied, vary

BASE = Ranges(crop_scale=(0.5, 1.0), flip=0.5)
TRIVIAL = table(shear=0.99, shift=32 / 224, degrees=135.0, bits=(8, 2), blend=0.99)
RAND = table(shear=0.3, shift=150 / 331, degrees=30.0, bits=(8, 4), blend=0.9)
_BINS = 31
_RAND_LEVEL = 9 / 30
_COLUMNS = 4
"""Numbers for an operation: whether, which, its sign, its level."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """`picks` operations for every image, after what `base` does to its geometry and before what else it does."""

    base: Varied
    operations: tuple[Operation, ...]
    picks: int
    level: float | None
    """Of every operation; None draws one of 31."""
    strength: float

    @property
    def draws(self) -> int:
        """See `Policy.draws`."""
        return self.base.draws + _COLUMNS * self.picks

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """See `Policy.stored`."""
        return self.base.stored(spec)

    def apply(self, images: Pixels, draw: Draw) -> Pixels:
        """See `Policy.apply`."""
        steps = self.steps(draw)
        where = self.base.where(images, draw)
        for step in steps:
            where = move(where, step, self.base.size)
        found = self.base.read(images, where)
        for step in steps:
            change(found, step)
        return self.base.retouch(found, draw)

    def steps(self, draw: Draw) -> list[Step]:
        """The operations of each image, in order."""
        found = []
        for pick in range(self.picks):
            first = self.base.draws + _COLUMNS * pick
            u = draw.uniforms[:, first : first + _COLUMNS]
            drawn = np.floor(u[:, 3] * _BINS) / (_BINS - 1) if self.level is None else np.full(len(u), self.level)
            found.append(
                choose_step(
                    self.operations,
                    u[:, :3],
                    np.minimum(drawn * self.strength, 1.0),
                    chance=min(self.strength, 1.0),
                    chiral=self.base.chiral[draw.labels],
                )
            )
        return found


def trivial(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Chosen:
    """The policy called `trivial`."""
    return Chosen(
        base=based(section, spec, classes),
        operations=allowed(TRIVIAL, section),
        picks=1,
        level=None,
        strength=section.strength,
    )


def rand(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Chosen:
    """The policy called `rand`."""
    return Chosen(
        base=based(section, spec, classes),
        operations=allowed(RAND, section),
        picks=2,
        level=_RAND_LEVEL,
        strength=section.strength,
    )


def based(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """What happens to an image beside the operations: a crop, a mirror image and what the recipe asks for."""
    return vary(fitted(BASE, spec), section, spec, classes)


def allowed(operations: Sequence[Operation], section: AugmentSection) -> tuple[Operation, ...]:
    """The operations of the families that may act."""
    return tuple(operation for operation in operations if operation.family in section.families)
