"""From prepared pixels to batches: the order of an epoch, augmentation, normalization and mixing.

Everything random comes from (seed, epoch, sample), so the batches are the same for any number of workers. Workers are
threads: NumPy and torch release the interpreter lock while they work on pixels.

Shapes: N images of a batch, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.preprocess import Pixels, PreprocessSpec, normalize
from sortal.core.recipe import Recipe
from sortal.core.sections import AugmentSection
from sortal.train.augment import Policy
from sortal.train.augment.mixing import mix
from sortal.train.losses import soft
from sortal.train.randomness import generator, order, uniforms
from sortal.train.store import Images, in_order


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one training step eats."""

    images: Tensor
    """(N, C, height, width) float32, normalized, channels last in memory."""
    targets: Tensor
    """(N,) class indices, or (N, K) shares where images were mixed."""
    samples: NDArray[np.int64]
    """(N,) sample numbers."""


@dataclass(frozen=True, kw_only=True)
class TrainLoader:
    """Makes the batches of any epoch, each from its numbers alone."""

    images: Images
    spec: PreprocessSpec
    """What the network is fed with; `images.spec` is how the pixels are stored."""
    policy: Policy
    section: AugmentSection
    classes: int
    batch: int
    seed: int
    workers: int

    @property
    def steps(self) -> int:
        """Steps in an epoch. The last batch is left out when it is a single image, which batch norm cannot take."""
        full, rest = divmod(len(self.images), self.batch)
        return max(1, full + (rest > 1))

    def epoch(self, epoch: int, *, first_step: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from `first_step` on."""
        samples = order(self.seed, epoch=epoch, count=len(self.images))
        steps = range(first_step, self.steps)

        def make(step: int) -> Batch:
            return self._make(epoch, step, samples[step * self.batch : (step + 1) * self.batch])

        return in_order(make, steps, threads=self.workers, ahead=2 * self.workers)

    def _make(self, epoch: int, step: int, samples: NDArray[np.int64]) -> Batch:
        draws = uniforms(self.seed, "augment", epoch=epoch, samples=samples, count=self.policy.draws)
        raw = torch.from_numpy(self.images.take(samples).astype(np.float32) / np.float32(self.spec.maximum))
        varied = self.policy.apply(raw.permute(0, 3, 1, 2).contiguous(), draws)
        images, targets = standardize(self.spec, varied), torch.from_numpy(self.images.labels[samples])
        if self.section.mixup > 0 or self.section.cutmix > 0 or self.section.erase > 0:
            random = generator(self.seed, "mix", epoch=epoch, index=step)
            images, mixed = mix(images, soft(targets, self.classes), self.section, random)
            targets = mixed if self.section.mixup > 0 or self.section.cutmix > 0 else targets
        return Batch(images=images.contiguous(memory_format=torch.channels_last), targets=targets, samples=samples)

    def preview(self, count: int = 16) -> tuple[Pixels, NDArray[np.int64]]:
        """The first images of epoch 0 as the network sees them, uint8 (count, height, width, C), and their labels."""
        batch = self._make(0, 0, order(self.seed, epoch=0, count=len(self.images))[:count])
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.spec.mean, self.spec.std))
        pixels = (batch.images * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()), self.images.labels[batch.samples]


def standardize(spec: PreprocessSpec, images: Tensor) -> Tensor:
    """(N, C, height, width) in 0..1 -> (x - mean) / std."""
    mean, std = (torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (images - mean) / std


def make_loader(
    images: Images, spec: PreprocessSpec, policy: Policy, recipe: Recipe, *, classes: int, batch: int, workers: int
) -> TrainLoader:
    """The loader of a run. A batch is never larger than the images there are."""
    return TrainLoader(
        images=images,
        spec=spec,
        policy=policy,
        section=recipe.augment,
        classes=classes,
        seed=recipe.seed,
        batch=min(batch, len(images)),
        workers=workers,
    )


def eval_batches(images: Images, *, batch: int, workers: int) -> Iterator[NDArray[np.float32]]:
    """Batches (N, C, height, width) in order, by the reference preprocessing and nothing else."""

    def make(start: int) -> NDArray[np.float32]:
        pixels = images.take(np.arange(start, min(start + batch, len(images))))
        return normalize(images.spec, pixels)

    return in_order(make, range(0, len(images), batch), threads=workers, ahead=2 * max(1, workers))
