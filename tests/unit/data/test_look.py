"""Measures, hash and tiny copy of one image: closed forms, every shape, near duplicates near and others far."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from scenes import saved, scene
from sortal.data.look import PICTURE_PX, look
from sortal.data.look_measure import RECORD


def record(image: bytes | np.ndarray) -> np.void:
    return look(image).view(RECORD)[0]


def bits(one: bytes, other: bytes) -> int:
    """By how many of 256 bits the hashes of two files differ."""
    return int(np.unpackbits(record(one)["hash"] ^ record(other)["hash"]).sum())


def test_levels_follow_the_pixels() -> None:
    pixels = np.full((100, 100, 3), 51, np.uint8)
    pixels[:2] = 255
    found = record(pixels)
    assert found["dark"] == pytest.approx(1.0)  # two of a hundred rows are white
    assert found["light"] == pytest.approx(0.2)
    assert found["brightness"] == pytest.approx(0.2 * 0.98 + 0.02)
    assert found["contrast"] == pytest.approx(0.8 * np.sqrt(0.98 * 0.02), abs=1e-6)
    assert found["entropy"] == pytest.approx(-(0.98 * np.log2(0.98) + 0.02 * np.log2(0.02)) / 8)
    assert found["chroma"] == 0
    pixels[1] = 51
    assert record(pixels)["dark"] == pytest.approx(0.2)


def test_chroma_is_the_spread_of_the_channels() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :, 0] = 102
    assert record(pixels)["chroma"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("left", "top", "right", "bottom"), [(0, 0, 0, 0), (20, 0, 20, 0), (0, 10, 0, 0), (8, 8, 8, 8)]
)
def test_a_uniform_border_is_measured_in_area(left: int, top: int, right: int, bottom: int) -> None:
    inner = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (60, 80, 3), np.uint8)
    framed = np.pad(inner, ((top, bottom), (left, right), (0, 0)), constant_values=200)
    assert record(framed)["border"] == pytest.approx(1 - inner.size / framed.size)


def test_a_blank_image_is_all_border_without_detail() -> None:
    found = record(np.full((50, 70, 3), 130, np.uint8))
    assert (found["border"], found["sharpness"], found["entropy"], found["contrast"]) == (1, 0, 0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (700, 1), (3, 4000), (64, 64)])
def test_every_shape_is_measured(shape: tuple[int, int]) -> None:
    rng = np.random.Generator(np.random.Philox(key=3))
    found = record(rng.integers(0, 256, (*shape, 3), np.uint8))
    assert (found["height"], found["width"]) == shape
    numbers = [float(found[name]) for name, kind in RECORD.fields.items() if kind[0] == np.float32]
    assert len(numbers) == 9
    assert all(0 <= number <= 1 for number in numbers)


def test_sharpness_falls_with_blur_and_not_with_contrast() -> None:
    image = scene(5).filter(ImageFilter.SHARPEN)
    levels = [record(saved(image.filter(ImageFilter.GaussianBlur(r)), "PNG"))["sharpness"] for r in (0, 1, 2, 4)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] < 0.5 * levels[0]
    faint = record(saved(ImageEnhance.Contrast(image).enhance(0.5), "PNG"))["sharpness"]
    assert faint == pytest.approx(levels[0], rel=0.1)


def test_tiny_is_the_picture_stretched() -> None:
    image = scene(7, 320, 160)
    wanted = np.asarray(image.resize((16, 16), Image.Resampling.BOX)).astype(int)
    assert np.abs(record(saved(image, "PNG"))["tiny"].astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_before_they_are_measured(orientation: int) -> None:
    image = scene(8, 900, 600)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.open(io.BytesIO(saved(image, exif=exif, quality=95)))
    upright = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    by_hand = image if orientation == 1 else image.transpose(Image.Transpose(upright[orientation]))
    one, other = saved(image, exif=exif, quality=95), saved(by_hand, quality=95)
    assert turned.size == (900, 600)
    assert (record(one)["height"], record(one)["width"]) == by_hand.size[::-1]
    assert bits(one, other) <= 16


@pytest.mark.parametrize("size", [(256, 256), (520, 300), (1031, 773), (3000, 160)])
def test_reduced_decoding_measures_what_full_decoding_does(size: tuple[int, int]) -> None:
    data = saved(scene(9, *size), quality=92)
    reduced, full = record(data), record(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    for name in ("brightness", "dark", "light", "contrast", "chroma"):
        assert reduced[name] == pytest.approx(full[name], abs=0.03), name
    assert int(np.unpackbits(reduced["hash"] ^ full["hash"]).sum()) <= 20
    assert max(size) >= PICTURE_PX


ALTERED = {
    "saved again": lambda image: saved(image, quality=40),
    "half as large": lambda image: saved(image.resize((image.width // 2, image.height // 2)), quality=90),
    "larger": lambda image: saved(image.resize((image.width * 3 // 2, image.height * 3 // 2)), "PNG"),
    "darker": lambda image: saved(ImageEnhance.Brightness(image).enhance(0.85)),
    "lighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.15)),
    "blurred": lambda image: saved(image.filter(ImageFilter.GaussianBlur(1))),
}


@pytest.mark.parametrize("name", ALTERED)
def test_near_duplicates_differ_in_few_bits(name: str) -> None:
    for seed in range(20):
        assert bits(saved(scene(seed), quality=95), ALTERED[name](scene(seed))) <= 24


def test_different_images_differ_in_many_bits() -> None:
    hashes = [record(saved(scene(seed)))["hash"] for seed in range(60)]
    distances = [int(np.unpackbits(one ^ other).sum()) for i, one in enumerate(hashes) for other in hashes[i + 1 :]]
    assert min(distances) > 64
    assert abs(np.median(distances) - 128) < 16
