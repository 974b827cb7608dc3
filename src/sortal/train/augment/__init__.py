"""Augmentation: how a training image is varied each time it is seen. A registry.

A member module has `build(section, spec) -> Policy`. A policy is told which random numbers to use; it keeps no state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sortal.core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sortal.core.preprocess import PreprocessSpec

AUGMENTATIONS = Registry(
    kind="augmentation",
    group="sortal.augment",
    table={
        "basic": "sortal.train.augment.basic:build",
        "none": "sortal.train.augment.none:build",
    },
)


class Policy(Protocol):
    """Varies a batch before it is normalized."""

    @property
    def draws(self) -> int:
        """Random numbers it needs for an image."""

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """How an image is prepared before `apply`: usually larger than `spec.size`, so that crops have room."""

    def apply(self, images: Tensor, draws: NDArray[np.float32]) -> Tensor:
        """(N, C, h, w) as stored, float32 in 0..1, and (N, draws) numbers in [0, 1) -> (N, C, height, width)."""
