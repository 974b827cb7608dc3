"""Augmentation by class frequency: much for classes with few training images, little for the rest.

A class is rare below `augment.rare_below` training images. `Tiered.served` says which pipeline an image goes through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts, Draw
from sortal.train.augment.ranges import Ranges
from sortal.train.augment.varied import Varied, vary

RARE = Ranges(
    quarter_turns=0.5,
    flip=0.5,
    flip_vertical=0.5,
    blur=0.25,
    noise=0.25,
    holes=8,
    light_chance=0.5,
    brightness=0.2,
    contrast=0.2,
)
COMMON = Ranges(chance=0.8, quarter_turns=0.5, flip=0.5, flip_vertical=0.5)


@dataclass(frozen=True, kw_only=True)
class Tiered:
    """Two pipelines and which classes go through which."""

    rare: Varied
    common: Varied
    is_rare: NDArray[np.bool_]
    """(K,)."""

    @property
    def draws(self) -> int:
        """See `Policy.draws`."""
        return max(self.rare.draws, self.common.draws)

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """See `Policy.stored`."""
        return self.rare.stored(spec)

    def apply(self, images: Pixels, draw: Draw) -> Pixels:
        """See `Policy.apply`."""
        found = np.empty((len(images), *self.rare.size, images.shape[3]), images.dtype)
        rare = self.is_rare[draw.labels]
        for pipeline, which in ((self.rare, rare), (self.common, ~rare)):
            if which.any():
                found[which] = pipeline.apply(images[which], draw.rows(which))
        return found

    def served(self, labels: NDArray[np.int64]) -> list[Literal["rare", "common"]]:
        """The pipeline that images with these class indices go through."""
        return ["rare" if is_rare else "common" for is_rare in self.is_rare[labels]]


def build(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Tiered:
    """The policy called `tiered`."""
    moves = any(vary(ranges, section, spec, classes).margin for ranges in (RARE, COMMON))
    return Tiered(
        rare=vary(RARE, section, spec, classes, margin=moves),
        common=vary(COMMON, section, spec, classes, margin=moves),
        is_rare=np.asarray(classes.counts) < section.rare_below,
    )
