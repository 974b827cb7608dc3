"""From prepared pixels to batches: the order of an epoch, augmentation, normalization and mixing.

Everything random comes from (seed, epoch, sample), so the batches are the same for any number of workers. Workers are
threads: reading, OpenCV and NumPy release the interpreter lock while they work on pixels. Pixels stay uint8 until a
whole batch is normalized on the device that trains.

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
from sortal.core.sections import AugmentSection
from sortal.train.augment import Draw, Policy
from sortal.train.augment.mixing import mix
from sortal.train.losses import soft
from sortal.train.randomness import generator, uniforms
from sortal.train.sampling import EpochPlan, Sampler
from sortal.train.standardize import standardize
from sortal.train.store import Images, in_order
from sortal.train.team import SOLO, Team


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one training step eats: this process's part of it."""

    pixels: Pixels
    """(N, height, width, C) uint8 or uint16, augmented."""
    labels: Tensor
    """(N,) class indices."""
    samples: NDArray[np.int64]
    """(N,) sample numbers."""
    epoch: int
    step: int
    """Of the epoch."""
    weight: float = 1.0
    """Factor on the loss, so that the mean over processes is the mean over the whole batch."""


@dataclass(frozen=True, kw_only=True)
class TrainLoader:
    """Makes the batches of any epoch, each from its numbers alone."""

    images: Images
    spec: PreprocessSpec
    """What the network is fed with; `images.spec` is how the pixels are stored."""
    policy: Policy
    section: AugmentSection
    sampler: Sampler
    classes: int
    batch: int
    """Images a step, over all processes."""
    seed: int
    workers: int
    team: Team = SOLO

    @property
    def steps(self) -> int:
        """Steps in an epoch. A last batch that leaves a process a single image, which batch norm cannot take, is left
        out."""
        full, rest = divmod(self.sampler.length, self.batch)
        return max(1, full + (rest >= 2 * self.team.size))

    def epoch(self, epoch: int, *, first_step: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from `first_step` on."""
        plan = self.sampler.epoch(epoch)
        keys = plan.samples + len(self.images) * _occurrences(plan.samples)

        def make(step: int) -> Batch:
            return self._make(plan, keys, epoch, step)

        return in_order(make, range(first_step, self.steps), threads=self.workers, ahead=2 * self.workers)

    def finish(self, batch: Batch, device: torch.device, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
        """Images (N, C, height, width) float32, normalized and mixed, on `device`, and targets: indices, or (N, K)
        shares where images were mixed."""
        images = standardize(self.spec, batch.pixels, device).contiguous(memory_format=layout)
        targets = batch.labels.to(device)
        if self.section.mixup > 0 or self.section.cutmix > 0 or self.section.erase > 0:
            random = generator(self.seed, "mix", epoch=batch.epoch, index=batch.step * self.team.size + self.team.rank)
            images, mixed = mix(images, soft(targets, self.classes), self.section, random)
            targets = mixed if self.section.mixup > 0 or self.section.cutmix > 0 else targets
        return images, targets

    def _make(self, plan: EpochPlan, keys: NDArray[np.int64], epoch: int, step: int) -> Batch:
        whole = min(self.batch, len(plan.samples) - step * self.batch)
        begin = step * self.batch + self.team.rank * whole // self.team.size
        end = step * self.batch + (self.team.rank + 1) * whole // self.team.size
        weight = (end - begin) * self.team.size / whole
        return self._cut(plan, keys, epoch, step, slice(begin, end), weight=weight)

    def _cut(
        self, plan: EpochPlan, keys: NDArray[np.int64], epoch: int, step: int, part: slice, *, weight: float = 1.0
    ) -> Batch:
        samples = plan.samples[part]
        pixels = self._varied(samples, keys[part], epoch)
        if plan.partners is not None:
            pixels = self._mixed(pixels, plan.partners[part], keys[part], epoch)
        labels = torch.from_numpy(self.images.labels[samples])
        return Batch(pixels=pixels, labels=labels, samples=samples, epoch=epoch, step=step, weight=weight)

    def _varied(self, samples: NDArray[np.int64], keys: NDArray[np.int64], epoch: int) -> Pixels:
        draw = Draw(
            uniforms=uniforms(self.seed, "augment", epoch=epoch, samples=keys, count=self.policy.draws),
            labels=self.images.labels[samples],
            samples=samples,
            epoch=epoch,
        )
        return self.policy.apply(self.images.take(samples), draw)

    def _mixed(self, pixels: Pixels, partners: NDArray[np.int64], keys: NDArray[np.int64], epoch: int) -> Pixels:
        """Images that have a partner of their class become a mixture of the two."""
        chosen = np.flatnonzero(partners >= 0)
        if not len(chosen):
            return pixels
        others = self._varied(partners[chosen], keys[chosen] + len(self.images), epoch)
        share = uniforms(self.seed, "mix", epoch=epoch, samples=keys[chosen], count=1)[:, :, None, None]
        mixed = pixels[chosen] * share + others * (1 - share)
        pixels[chosen] = np.rint(mixed).astype(pixels.dtype)
        return pixels

    def preview(self, count: int = 16) -> tuple[Pixels, NDArray[np.int64]]:
        """The first images of epoch 0 as the network sees them, uint8 (count, height, width, C), and their labels."""
        plan = self.sampler.epoch(0)
        batch = self._cut(plan, plan.samples, 0, 0, slice(0, count))
        images, _ = self.finish(batch, torch.device("cpu"), torch.contiguous_format)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.spec.mean, self.spec.std))
        pixels = (images * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()), batch.labels.numpy()


def eval_batches(
    images: Images, *, batch: int, workers: int, part: slice = slice(None)
) -> Iterator[NDArray[np.float32]]:
    """Batches (N, C, height, width) of a part of the images, in order, by the reference preprocessing alone."""
    positions = np.arange(len(images))[part]

    def make(start: int) -> NDArray[np.float32]:
        return normalize(images.spec, images.take(positions[start : start + batch]))

    return in_order(make, range(0, len(positions), batch), threads=workers, ahead=2 * max(1, workers))


def _occurrences(samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each entry's sample came before it: copies of an image are varied differently."""
    order = np.argsort(samples, kind="stable")
    ranked = samples[order]
    begins = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    lengths = np.diff(np.r_[begins, len(ranked)])
    counted = np.empty(len(samples), np.int64)
    counted[order] = np.arange(len(samples)) - np.repeat(begins, lengths)
    return counted
