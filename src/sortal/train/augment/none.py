"""No augmentation: training images are prepared exactly as validation images are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.preprocess import PreprocessSpec
from sortal.core.sections import AugmentSection


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """Leaves every image as it is."""

    draws: int = 0

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """The validation spec itself."""
        return spec

    def apply(self, images: Tensor, draws: NDArray[np.float32]) -> Tensor:  # noqa: ARG002  the Policy's signature
        """The same tensor."""
        return images


def build(section: AugmentSection, spec: PreprocessSpec) -> Unchanged:  # noqa: ARG001  the registry's signature
    """The policy called `none`."""
    return Unchanged()
