"""Rows and columns that the crop drops are not resized, and nothing is different for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from sortal.core.preprocess import INTERPOLATIONS, PreprocessSpec, center_crop, cover, prepare

SIZES = [(375, 500), (500, 375), (256, 256), (224, 224), (31, 47), (1080, 1920), (257, 255), (640, 640), (3000, 700)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box", "nearest"])
@pytest.mark.parametrize(("side", "crop"), [(224, 0.875), (128, 0.5), (200, 0.8)])
@pytest.mark.parametrize("shape", SIZES)
def test_a_crop_has_the_pixels_of_resizing_all(
    shape: tuple[int, int], side: int, crop: float, interpolation: str
) -> None:
    spec = PreprocessSpec(
        size=(side, side), resize="crop", crop=crop, interpolation=interpolation, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    pixels = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3)).astype(np.uint8)
    covering = cover(shape, (math.floor(side / crop), math.floor(side / crop)))
    whole = Image.fromarray(pixels).resize(covering[::-1], INTERPOLATIONS[interpolation])
    expected = center_crop(np.asarray(whole), side, side)

    np.testing.assert_array_equal(prepare(spec, pixels), expected)
    np.testing.assert_array_equal(prepare(spec, Image.fromarray(pixels)), expected)


def test_samples_of_16_bits_are_the_same_too() -> None:
    spec = PreprocessSpec(size=(224, 224), channels=1, depth=16, resize="crop", mean=(0.5,), std=(0.5,))
    pixels = np.random.default_rng(5).integers(0, 65536, (375, 500, 1)).astype(np.uint16)
    whole = Image.fromarray(pixels[:, :, 0].astype(np.float32)).resize((341, 256), Image.Resampling.BICUBIC)
    expected = np.clip(np.rint(center_crop(np.asarray(whole)[:, :, None], 224, 224)), 0, 65535).astype(np.uint16)

    np.testing.assert_array_equal(prepare(spec, pixels), expected)
