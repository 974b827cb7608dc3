"""Augmentation: how a training image is varied each time it is seen. A registry.

A member module has `build(section, spec, classes) -> Policy`. A policy works on batches of uint8 or uint16 pixels, is
told which random numbers to use, and keeps no state, so any thread may call it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sortal.core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sortal.core.preprocess import Pixels, PreprocessSpec

AUGMENTATIONS = Registry(
    kind="augmentation",
    group="sortal.augment",
    table={
        "basic": "sortal.train.augment.basic:build",
        "none": "sortal.train.augment.none:build",
        "torchvision-basic": "sortal.train.augment.presets:torchvision_basic",
        "rot15": "sortal.train.augment.presets:rot15",
        "rot30": "sortal.train.augment.presets:rot30",
        "full": "sortal.train.augment.presets:full",
        "industrial": "sortal.train.augment.presets:industrial",
        "medical": "sortal.train.augment.presets:medical",
        "retail": "sortal.train.augment.presets:retail",
        "tiered": "sortal.train.augment.tiered:build",
        "trivial": "sortal.train.augment.chosen:trivial",
        "rand": "sortal.train.augment.chosen:rand",
        "augmix": "sortal.train.augment.augmix:build",
        "quick": "sortal.train.augment.quick:build",
    },
)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What a policy may know about a batch of N images beside their pixels."""

    uniforms: NDArray[np.float32]
    """(N, policy.draws) in [0, 1); a row depends on (seed, epoch, sample) alone."""
    labels: NDArray[np.int64]
    """(N,) class indices."""
    samples: NDArray[np.int64]
    """(N,) sample numbers."""
    epoch: int

    def rows(self, which: NDArray[np.bool_]) -> Draw:
        """The part of the batch where `which` (N,) is true."""
        return Draw(
            uniforms=self.uniforms[which], labels=self.labels[which], samples=self.samples[which], epoch=self.epoch
        )


@dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """What a policy may know about the classes when it is built."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    """(K,) training images of each class."""


class Policy(Protocol):
    """Varies a batch before it is normalized."""

    @property
    def draws(self) -> int:
        """Random numbers it needs for an image."""

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """How an image is prepared before `apply`: larger than `spec.size` where crops and turns need room."""

    def apply(self, images: Pixels, draw: Draw) -> Pixels:
        """(N, h, w, C) uint8 or uint16 as stored -> (N, height, width, C) of the same dtype, contiguous.

        The input is never changed. What becomes of an image does not depend on the others of its batch.
        """
