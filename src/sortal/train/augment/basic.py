"""The default augmentation: a random crop, a mirror image, a little brightness and contrast.

A crop keeps at least half of the image: with the field's usual minimum of 8 % a small defect is often cut away while
its label stays. Images of up to 48 pixels are shifted by an eighth of their size instead (the CIFAR habit: pad and
crop), because enlarging a part of so few pixels blurs what little there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sortal.core.preprocess import PreprocessSpec
from sortal.core.sections import AugmentSection

SMALL = 48
"""Pixels up to which images are shifted and not zoomed."""

_MIN_SCALE = {"crop": 0.5, "stretch": 0.5, "pad": 0.7}
"""Smallest share of the area that a crop keeps at strength 1; padded images fill their canvas already."""
_MAX_ASPECT = math.log(4 / 3)
_LIGHT = 0.2
"""Largest change of brightness and of contrast at strength 1."""


@dataclass(frozen=True, kw_only=True)
class Basic:
    """Crop or shift, mirror, light; `strength` 0 changes nothing, 1 is the usual amount."""

    size: tuple[int, int]
    min_scale: float
    strength: float
    draws: int = 7

    @property
    def shifts(self) -> bool:
        """True for small images, which are shifted and not zoomed."""
        return max(self.size) <= SMALL

    def stored(self, spec: PreprocessSpec) -> PreprocessSpec:
        """With the margin that the validation crop cuts away, except where images are shifted or padded."""
        if self.shifts or spec.resize == "pad":
            return spec
        height, width = (math.floor(side / spec.crop) for side in spec.size)
        return spec.model_copy(update={"size": (height, width), "crop": 1.0})

    def apply(self, images: Tensor, draws: NDArray[np.float32]) -> Tensor:
        """See `Policy.apply`. The seven numbers: area, aspect, left, top, mirror, brightness, contrast."""
        u = torch.from_numpy(np.ascontiguousarray(draws)).T
        varied = self._shift(images, u) if self.shifts else self._zoom(images, u)
        return _light(varied, u[5], u[6], _LIGHT * self.strength)

    def _zoom(self, images: Tensor, u: Tensor) -> Tensor:
        scale = (1.0 - (1.0 - self.min_scale) * u[0] * min(self.strength, 1.0)).sqrt()
        aspect = torch.exp((u[1] * 2 - 1) * _MAX_ASPECT * 0.5 * min(self.strength, 1.0))
        width, height = (scale * aspect).clamp(max=1.0), (scale / aspect).clamp(max=1.0)
        x, y = (u[2] * 2 - 1) * (1 - width), (u[3] * 2 - 1) * (1 - height)
        return _sample(images, _mirror(u[4]) * width, height, x, y, self.size, padding="border")

    def _shift(self, images: Tensor, u: Tensor) -> Tensor:
        height, width = self.size
        reach_x, reach_y = (round(side / 8 * min(self.strength, 1.0)) for side in (width, height))
        x = (torch.floor(u[2] * (2 * reach_x + 1)) - reach_x) * 2 / width
        y = (torch.floor(u[3] * (2 * reach_y + 1)) - reach_y) * 2 / height
        return _sample(images, _mirror(u[4]), torch.ones_like(x), x, y, self.size, padding="reflection")


def build(section: AugmentSection, spec: PreprocessSpec) -> Basic:
    """The policy called `basic` for images of `spec.size`."""
    return Basic(size=spec.size, min_scale=_MIN_SCALE[spec.resize], strength=section.strength)


def _mirror(u: Tensor) -> Tensor:
    return torch.where(u < 0.5, -1.0, 1.0)


def _sample(
    images: Tensor, width: Tensor, height: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], *, padding: str
) -> Tensor:
    """Windows of (width, height) around (x, y), in the coordinates -1..1 of the image, resampled to `size`."""
    zero = torch.zeros_like(x)
    theta = torch.stack([torch.stack([width, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = functional.affine_grid(theta, [len(images), images.shape[1], *size], align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _light(images: Tensor, brightness: Tensor, contrast: Tensor, reach: float) -> Tensor:
    """Multiply by 1 ± reach, then move away from or towards the image's own mean by a factor 1 ± reach."""
    factor = (1 + (brightness * 2 - 1) * reach).view(-1, 1, 1, 1)
    spread = (1 + (contrast * 2 - 1) * reach).view(-1, 1, 1, 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * spread + mean) * factor).clamp(0.0, 1.0)
