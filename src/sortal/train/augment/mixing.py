"""What is done to a whole normalized batch: MixUp, CutMix and erasing. Off unless the recipe asks.

MixUp: Zhang et al. 2018. CutMix: Yun et al. 2019. Random erasing: Zhong et al. 2020; the hole is filled with zeros,
which is the mean color after normalization. A window that CutMix pastes may miss what the label is about (one scratch
on a plate): the share of the area is then a wrong share of the label, and MixUp the better choice.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sortal.core.sections import AugmentSection
from sortal.train.augment.advanced import ERASED_AREA, ERASED_ASPECT, rectangles


def mix(images: Tensor, targets: Tensor, section: AugmentSection, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and soft targets (N, K) after mixing and erasing.

    `mix_share` of the batches are mixed; where both are asked for, each gets one of MixUp and CutMix, at even chances.
    """
    mixed = section.mix_share >= 1 or random.random() < section.mix_share
    use_cutmix = mixed and section.cutmix > 0 and (section.mixup == 0 or random.random() < 0.5)
    if use_cutmix:
        images, targets = cutmix(images, targets, random.beta(section.cutmix, section.cutmix), random)
    elif mixed and section.mixup > 0:
        images, targets = mixup(images, targets, random.beta(section.mixup, section.mixup), random)
    if section.erase > 0:
        images = erase(images, section.erase, random)
    return images, targets


def mixup(images: Tensor, targets: Tensor, share: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """`share` of each image and target, the rest from another one of the batch."""
    other = torch.from_numpy(random.permutation(len(images)))
    return images * share + images[other] * (1 - share), targets * share + targets[other] * (1 - share)


def cutmix(images: Tensor, targets: Tensor, share: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A window from another image of the batch; targets are mixed by the area that was really replaced."""
    other = torch.from_numpy(random.permutation(len(images)))
    height, width = images.shape[2:]
    top, bottom, left, right = _window(height, width, 1 - share, random.random(2))
    images = images.clone()
    images[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return images, targets * kept + targets[other] * (1 - kept)


def erase(
    images: Tensor,
    chance: float,
    random: np.random.Generator,
    *,
    area: tuple[float, float] = ERASED_AREA,
    aspect: float = ERASED_ASPECT,
) -> Tensor:
    """With `chance` for each image, zeros in a rectangle: a share of `area`, sides at a ratio of 1/aspect to aspect."""
    images = images.clone()
    u = random.random((len(images), 5))
    boxes = rectangles(u[:, 1:], (images.shape[2], images.shape[3]), area=area, aspect=aspect)
    for row in np.flatnonzero(u[:, 0] < chance):
        top, bottom, left, right = boxes[row]
        images[row, :, top:bottom, left:right] = 0.0
    return images


def _window(height: int, width: int, area: float, place: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a window of `area` (a share) with its centre anywhere, cut at the border."""
    tall, wide = height * area**0.5, width * area**0.5
    y, x = place[0] * height, place[1] * width
    top, left = max(0, round(y - tall / 2)), max(0, round(x - wide / 2))
    return top, min(height, round(y + tall / 2)), left, min(width, round(x + wide / 2))
