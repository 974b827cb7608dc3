"""Named policies that are a table of ranges each, for what is known about the images.

Chances and extents are at `strength: 1`; any key of the recipe's `augment` section replaces one of them. Small images
are shifted where larger ones are cropped, and padded ones keep more of themselves, but for `torchvision-basic`, which
is what it is.
"""

from __future__ import annotations

from dataclasses import replace

from sortal.core.preprocess import PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts
from sortal.train.augment.basic import BASIC, fitted
from sortal.train.augment.ranges import Ranges
from sortal.train.augment.varied import Varied, vary

TORCHVISION_BASIC = Ranges(crop_scale=(0.08, 1.0), flip=0.5, brightness=0.2, contrast=0.2)
"""RandomResizedCrop, RandomHorizontalFlip and ColorJitter(0.2, 0.2) with torchvision's defaults; ToTensor and Normalize
are the loader's. Crops down to 8 % can lose what an image was labeled for."""

ROT15 = replace(BASIC, rotate=15.0)
ROT30 = replace(BASIC, rotate=30.0)

FULL = Ranges(
    crop_scale=(0.5, 1.0),
    flip=0.5,
    flip_vertical=0.5,
    rotate=30.0,
    scale=(0.8, 1.2),
    brightness=0.2,
    contrast=0.2,
    hue=0.05,
    saturation=0.2,
    value=0.2,
    erase=0.25,
)
"""All three families: geometry, color, and erasing for the advanced one. Mixing is `augment.mixup` and `.cutmix`."""

INDUSTRIAL = Ranges(crop_scale=(0.7, 1.0), rotate=5.0, shift=0.05, brightness=0.2, contrast=0.2, blur=0.1, noise=0.2)
"""A fixed camera over parts: nothing is mirrored (left and right parts may be two classes) and defects stay in view."""

MEDICAL = Ranges(crop_scale=(0.8, 1.0), rotate=10.0, scale=(0.9, 1.1), brightness=0.1, contrast=0.2)
"""Nothing is mirrored (a heart on the right is a finding), and colors, a stain's or a device's, stay. Where sides mean
nothing, as on skin or tissue, add `augment.flip: 0.5`."""

RETAIL = Ranges(
    crop_scale=(0.6, 1.0),
    flip=0.5,
    rotate=10.0,
    scale=(0.85, 1.15),
    shear=0.15,
    brightness=0.25,
    contrast=0.25,
    hue=0.03,
    saturation=0.25,
    value=0.15,
)
"""Products held before a hand-held camera: other distances, slants and lamps."""


def torchvision_basic(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `torchvision-basic`."""
    return vary(TORCHVISION_BASIC, section, spec, classes)


def rot15(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `rot15`."""
    return vary(fitted(ROT15, spec), section, spec, classes)


def rot30(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `rot30`."""
    return vary(fitted(ROT30, spec), section, spec, classes)


def full(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `full`."""
    return vary(fitted(FULL, spec), section, spec, classes)


def industrial(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `industrial`."""
    return vary(fitted(INDUSTRIAL, spec), section, spec, classes)


def medical(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `medical`."""
    return vary(fitted(MEDICAL, spec), section, spec, classes)


def retail(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `retail`."""
    return vary(fitted(RETAIL, spec), section, spec, classes)
