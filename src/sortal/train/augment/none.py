"""No augmentation: training images are prepared exactly as validation images are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sortal.core.preprocess import Pixels, PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts, Draw


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """Leaves every image as it is."""

    draws: int = 0

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """The validation spec itself."""
        return spec

    def apply(self, images: Pixels, draw: Draw) -> Pixels:  # noqa: ARG002  the Policy's signature
        """The same pixels."""
        return np.ascontiguousarray(images)


def build(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Unchanged:  # noqa: ARG001  as above
    """The policy called `none`."""
    return Unchanged()
