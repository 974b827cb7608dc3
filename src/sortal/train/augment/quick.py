"""For small images and short runs: an alternating flip and a shift.

A sample is mirrored in every other epoch, and half of the samples start mirrored, so that two epochs show every image
both ways; a coin a epoch shows many twice the same way (Jordan 2024, arXiv:2404.00498). The shift is by up to a
sixteenth of a side, whole pixels, over mirrored borders.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts, Draw, geometry
from sortal.train.augment.ranges import Ranges
from sortal.train.augment.varied import Varied, vary

QUICK = Ranges(shift=0.0625)


@dataclass(frozen=True, kw_only=True)
class Quick:
    """Varied images whose mirroring alternates."""

    base: Varied
    alternates: bool

    @property
    def draws(self) -> int:
        """See `Policy.draws`."""
        return self.base.draws

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """See `Policy.stored`."""
        return self.base.stored(spec)

    def apply(self, images: Pixels, draw: Draw) -> Pixels:
        """See `Policy.apply`."""
        views = self.base.views(draw)
        if self.alternates:
            mirrored = alternating(draw.samples, draw.epoch) & ~self.base.chiral[draw.labels]
            views = replace(views, mirrored=mirrored)
        where = geometry.maps(views, (images.shape[1], images.shape[2]), self.base.size)
        return self.base.retouch(self.base.read(images, where), draw)


def alternating(samples: NDArray[np.int64], epoch: int) -> NDArray[np.bool_]:
    """(N,) which samples are mirrored in this epoch: each in every other one, half of them beginning with epoch 0."""
    mixed = samples.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    starts: NDArray[np.bool_] = (mixed >> np.uint64(63)) == 1
    return starts ^ np.bool_(epoch % 2)


def build(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Quick:
    """The policy called `quick`. A chance of mirroring in the recipe replaces the alternation."""
    alternates = section.flip is None and section.strength > 0 and "geometric" in section.families
    return Quick(base=vary(QUICK, section, spec, classes), alternates=alternates)
