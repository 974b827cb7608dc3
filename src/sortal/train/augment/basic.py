"""The default augmentation: a random crop, a mirror image, a little brightness and contrast.

A crop keeps at least half of the image: with the field's usual minimum of 8 % a small defect is often cut away while
its label stays. Images of up to 48 pixels are shifted by an eighth of their size instead (the CIFAR habit: pad by
mirroring, then crop), because enlarging a part of so few pixels blurs what little there is.
"""

from __future__ import annotations

from dataclasses import replace

from sortal.core.preprocess import PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import ClassFacts
from sortal.train.augment.ranges import Ranges
from sortal.train.augment.varied import Varied, vary

SMALL = 48
"""Pixels up to which images are shifted and not zoomed."""

BASIC = Ranges(crop_scale=(0.5, 1.0), flip=0.5, brightness=0.2, contrast=0.2)
_PADDED_CROP = 0.7
"""Smallest crop of padded images, which fill their canvas already."""


def build(section: AugmentSection, spec: PreprocessSpec, classes: ClassFacts) -> Varied:
    """The policy called `basic`."""
    return vary(fitted(BASIC, spec), section, spec, classes)


def fitted(ranges: Ranges, spec: PreprocessSpec) -> Ranges:
    """Numbers for inputs of `spec`: small ones are shifted where large ones are cropped, padded ones cropped less."""
    if ranges.crop_scale is None:
        return ranges
    if max(spec.size) <= SMALL:
        return replace(ranges, crop_scale=None, shift=max(ranges.shift, 0.125))
    if spec.resize == "pad":
        low = max(ranges.crop_scale[0], _PADDED_CROP)
        return replace(ranges, crop_scale=(low, max(low, ranges.crop_scale[1])))
    return ranges
