"""The operations that TrivialAugment, RandAugment and AugMix choose from, and how strong they are at most.

An operation is geometric (it becomes part of the one map that an image is read through) or changes pixels in place,
after that map. Extents at level 1 are those of torchvision's versions of the three, with distances as shares of a side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sortal.core.preprocess import Pixels
from sortal.train.augment.color import light
from sortal.train.augment.geometry import CHIRAL_DEGREES, Maps, composed
from sortal.train.augment.opencv import cv2

Family = Literal["geometric", "color", "advanced"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation; at a level of 0..1 its magnitude lies between `low` and `high`."""

    name: str
    family: Family
    low: float = 0.0
    high: float = 0.0
    signed: bool = False
    """The magnitude goes either way."""

    def magnitude(self, level: float, *, negative: bool) -> float:
        """How strong it is."""
        found = self.low + (self.high - self.low) * level
        return -found if self.signed and negative else found


def table(
    *,
    shear: float,
    shift: float,
    degrees: float,
    bits: tuple[float, float],
    blend: float | None,
) -> tuple[Operation, ...]:
    """The operations of one policy; `blend` is the reach of brightness, color, contrast and sharpness, if it has them.

    `bits` are those that posterizing leaves at level 0 and 1.
    """
    found = [
        Operation(name="identity", family="geometric"),
        Operation(name="shear_x", family="geometric", high=shear, signed=True),
        Operation(name="shear_y", family="geometric", high=shear, signed=True),
        Operation(name="translate_x", family="geometric", high=shift, signed=True),
        Operation(name="translate_y", family="geometric", high=shift, signed=True),
        Operation(name="rotate", family="geometric", high=degrees, signed=True),
        Operation(name="posterize", family="color", low=bits[0], high=bits[1]),
        Operation(name="solarize", family="color", low=1.0, high=0.0),
        Operation(name="autocontrast", family="color"),
        Operation(name="equalize", family="color"),
    ]
    if blend is not None:
        found += [
            Operation(name="brightness", family="color", high=blend, signed=True),
            Operation(name="color", family="color", high=blend, signed=True),
            Operation(name="contrast", family="color", high=blend, signed=True),
            Operation(name="sharpness", family="advanced", high=blend, signed=True),
        ]
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation for each image of a batch."""

    operations: Sequence[Operation]
    magnitudes: NDArray[np.float64]
    """(N,)."""


def choose_step(
    operations: Sequence[Operation],
    u: NDArray[np.float32],
    levels: NDArray[np.floating],
    *,
    chance: float,
    chiral: NDArray[np.bool_],
) -> Step:
    """An operation for each of N images from (N, 3) numbers in [0, 1): whether, which, the sign; `levels` are (N,)."""
    identity = Operation(name="identity", family="geometric")
    chosen = [
        operations[int(which * len(operations))] if whether < chance and operations else identity
        for whether, which in u[:, :2]
    ]
    magnitudes = [
        operation.magnitude(float(level), negative=bool(sign < 0.5))
        for operation, level, sign in zip(chosen, levels, u[:, 2], strict=True)
    ]
    turned = np.array([operation.name == "rotate" for operation in chosen], np.bool_) & chiral
    capped = np.where(turned, np.clip(magnitudes, -CHIRAL_DEGREES, CHIRAL_DEGREES), magnitudes)
    return Step(operations=chosen, magnitudes=capped)


def move(where: Maps, step: Step, size: tuple[int, int]) -> Maps:
    """The maps `where` followed by the geometric operations of `step`, for outputs of `size`."""
    inner, offset = np.tile(np.eye(2), (len(where), 1, 1)), np.zeros((len(where), 2))
    for row, (operation, magnitude) in enumerate(zip(step.operations, step.magnitudes, strict=True)):
        match operation.name:
            case "shear_x":
                inner[row, 0, 1] = magnitude
            case "shear_y":
                inner[row, 1, 0] = magnitude
            case "translate_x":
                offset[row, 0] = round(magnitude * size[1])
            case "translate_y":
                offset[row, 1] = round(magnitude * size[0])
            case "rotate":
                cosine, sine = math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
                inner[row] = [[cosine, -sine], [sine, cosine]]
    return composed(where, inner, offset)


def change(images: Pixels, step: Step) -> None:
    """Apply the operations of `step` that change pixels, in place."""
    for image, operation, magnitude in zip(images, step.operations, step.magnitudes, strict=True):
        if operation.name in PIXELS:
            PIXELS[operation.name](image, float(magnitude))


def saturate(image: Pixels, magnitude: float) -> None:
    """Away from (or, below 0, towards) the gray image."""
    if image.shape[2] == 3:
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        cv2.addWeighted(image, 1 + magnitude, gray, -magnitude, 0.0, dst=image)


def sharpen(image: Pixels, magnitude: float) -> None:
    """Away from a smooth image whose kernel is ones around a 5, as Pillow's."""
    kept = 1 + magnitude - magnitude * 4 / 13
    mean = cv2.blur(image, (3, 3)).reshape(image.shape)
    cv2.addWeighted(image, kept, mean, -magnitude * 9 / 13, 0.0, dst=image)


def posterize(image: Pixels, bits: float) -> None:
    """Only the highest `bits` of a sample, at least one."""
    depth = image.dtype.itemsize * 8
    dropped = depth - min(max(round(bits), 1), depth)
    np.bitwise_and(image, image.dtype.type((1 << depth) - (1 << dropped)), out=image)


def solarize(image: Pixels, threshold: float) -> None:
    """Samples from `threshold` on, on the scale 0..1, are inverted; at 1 none is."""
    maximum = int(np.iinfo(image.dtype).max)
    if threshold < 1:
        np.copyto(image, maximum - image, where=image >= threshold * maximum)


def autocontrast(image: Pixels, _: float) -> None:
    """Each channel is stretched to the full range; one of a single value stays."""
    maximum = int(np.iinfo(image.dtype).max)
    for channel, plane in enumerate(cv2.split(image)):
        low, high, _low_at, _high_at = cv2.minMaxLoc(plane)
        if high > low:
            factor = maximum / (high - low)
            image[..., channel] = cv2.addWeighted(plane, factor, plane, 0.0, -low * factor)


def equalize(image: Pixels, _: float) -> None:
    """Each channel's histogram is made as flat as whole levels allow."""
    levels = int(np.iinfo(image.dtype).max) + 1
    for channel, plane in enumerate(cv2.split(image)):
        if image.dtype == np.uint8:
            image[..., channel] = cv2.equalizeHist(plane)
            continue
        below = np.cumsum(np.bincount(plane.ravel(), minlength=levels))
        first = below[plane.min()]
        if first < plane.size:
            levelled = np.rint((below - first).clip(0) * (levels - 1) / (plane.size - first))
            image[..., channel] = levelled.astype(image.dtype)[plane]


PIXELS: dict[str, Callable[[Pixels, float], None]] = {
    "brightness": lambda image, magnitude: light(image, 1 + magnitude, 1.0),
    "contrast": lambda image, magnitude: light(image, 1.0, 1 + magnitude),
    "color": saturate,
    "sharpness": sharpen,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
"""Operations that change (H, W, C) pixels in place."""
