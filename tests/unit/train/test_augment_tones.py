from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from sortal.core.preprocess import PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import AUGMENTATIONS, ClassFacts, Draw
from sortal.train.augment.advanced import Damage, add_noise, choose_damage, draws, spoil
from sortal.train.augment.color import light, turn_hue
from sortal.train.augment.ranges import Ranges
from sortal.train.augment.varied import Varied

CLASSES = ClassFacts(names=("a", "b"), counts=np.array([60, 60]))
SPEC = PreprocessSpec(size=(64, 64), mean=(0.5,) * 3, std=(0.2,) * 3)


def named(name: str, **keys: object) -> Varied:
    section = AugmentSection.model_validate({"name": name, **keys})
    policy: Varied = AUGMENTATIONS.get(name)(section, SPEC, CLASSES)
    return policy


def draw(policy: Varied, count: int) -> Draw:
    numbers = np.random.default_rng(0).random((count, policy.draws), dtype=np.float32)
    return Draw(uniforms=numbers, labels=np.zeros(count, np.int64), samples=np.arange(count), epoch=0)


def damage(ranges: Ranges, count: int, size: tuple[int, int] = (224, 224)) -> Damage:
    return choose_damage(ranges, np.random.default_rng(1).random((count, draws(ranges)), dtype=np.float32), size)


def colors(dtype: type = np.uint8) -> np.ndarray:
    image = np.random.default_rng(2).integers(30, 200, (16, 16, 3))
    return (image * (257 if dtype is np.uint16 else 1)).astype(dtype)


@pytest.mark.parametrize("name", ["basic", "torchvision-basic", "full"])
def test_factors_of_light_stay_within_0_8_and_1_2(name: str) -> None:
    policy = named(name)
    tones = policy.tones(draw(policy, 1000))
    for factors in (tones.brightness, tones.contrast):
        assert factors.min() >= 0.8
        assert factors.max() <= 1.2
        assert factors.max() - factors.min() > 0.38
    assert abs(np.corrcoef(tones.brightness, tones.contrast)[0, 1]) < 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_light_is_torchvisions_brightness_and_contrast(dtype: type) -> None:
    for brightness, contrast in ((0.8, 1.0), (1.2, 1.0), (1.0, 0.8), (1.0, 1.15), (1.1, 0.9)):
        image = colors(dtype)
        maximum = np.iinfo(dtype).max
        scaled = torch.from_numpy(image.astype(np.float32) / maximum).permute(2, 0, 1)
        theirs = functional.adjust_contrast(functional.adjust_brightness(scaled, brightness), contrast)
        light(image, brightness, contrast)
        ours = image.astype(np.float32) / maximum
        assert np.abs(ours - theirs.permute(1, 2, 0).numpy()).max() < 0.003


def test_light_is_clipped() -> None:
    image = np.array([[[0, 100, 255]]], np.uint8)
    light(image, 2.0, 1.0)
    assert image.tolist() == [[[0, 200, 255]]]


def test_brightness_and_contrast_change_half_of_the_rare_images() -> None:
    policy = AUGMENTATIONS.get("tiered")(AugmentSection(name="tiered"), SPEC, CLASSES).rare
    tones = policy.tones(draw(policy, 1000))
    assert (tones.brightness != 1).mean() == pytest.approx(0.5, abs=0.05)
    assert np.array_equal(tones.brightness != 1, tones.contrast != 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("turn", [0.3, -0.4, 0.5, 0.95])
def test_hue_goes_round_the_circle(dtype: type, turn: float) -> None:
    image = colors(dtype)
    maximum = np.iinfo(dtype).max
    expected = np.empty(image.shape)
    for place in np.ndindex(16, 16):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[place] / maximum))
        expected[place] = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
    turn_hue(image, turn, 1.0, 1.0)
    assert np.abs(image / maximum - expected).max() < (0.03 if dtype is np.uint8 else 0.001)
    assert np.abs(image / maximum - expected).mean() < 0.006


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_saturation_and_value_multiply(dtype: type) -> None:
    image = colors(dtype)
    maximum = np.iinfo(dtype).max
    expected = np.empty(image.shape)
    for place in np.ndindex(16, 16):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[place] / maximum))
        expected[place] = colorsys.hsv_to_rgb(hue, min(saturation * 0.5, 1), min(value * 1.2, 1))
    turn_hue(image, 0.0, 0.5, 1.2)
    assert np.abs(image / maximum - expected).max() < 0.02


def test_hue_saturation_and_value_stay_in_their_ranges() -> None:
    policy = named("full", hue=0.1, saturation=0.3, value=0.4)
    tones = policy.tones(draw(policy, 1000))
    assert np.abs(tones.hue).max() <= 0.1
    assert np.abs(tones.saturation - 1).max() <= 0.3
    assert np.abs(tones.value - 1).max() <= 0.4
    assert {-1.0, 1.0} == set(np.sign(tones.hue))


def test_one_of_blur_and_noise_when_the_block_fires() -> None:
    found = damage(Ranges(blur=0.25, noise=0.25), 2000)
    assert not (found.blurred & found.noisy).any()
    assert (found.blurred | found.noisy).mean() == pytest.approx(0.5, abs=0.05)
    assert found.blurred.mean() == pytest.approx(0.25, abs=0.04)
    certain = damage(Ranges(blur=1.0, noise=1.0), 2000)
    assert (certain.blurred ^ certain.noisy).all()
    assert certain.noisy.mean() == pytest.approx(0.5, abs=0.05)


def test_a_blur_reaches_one_pixel() -> None:
    image = np.zeros((1, 9, 9, 3), np.uint8)
    image[0, 4, 4] = 90
    only = Damage(
        blurred=np.array([True]),
        noisy=np.array([False]),
        place=np.zeros(1, np.float32),
        boxes=np.zeros((1, 0, 4), np.int64),
    )
    spoil(image, only, noise_std=0.0, fill=(0.0,) * 3)
    expected = np.zeros((9, 9, 3))
    expected[3:6, 3:6] = 10
    assert np.array_equal(image[0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_gaussian_and_clipped(dtype: type, channels: int) -> None:
    maximum = np.iinfo(dtype).max
    image = np.full((120, 120, channels), maximum // 2, dtype)
    add_noise(image, 0.05, 0.37)
    off = (image.astype(np.float64) - maximum // 2) / maximum
    assert off.std() == pytest.approx(0.05, rel=0.03)
    assert abs(off.mean()) < 0.001
    assert (np.abs(off) < 0.05).mean() == pytest.approx(0.683, abs=0.02)
    other = np.full_like(image, maximum // 2)
    add_noise(other, 0.05, 0.38)
    assert not np.array_equal(image, other)
    dark = np.zeros_like(image)
    add_noise(dark, 0.05, 0.37)
    assert (dark == 0).mean() == pytest.approx(0.5, abs=0.05)


def test_at_most_eight_holes_of_16_pixels() -> None:
    ranges = Ranges(holes=8, hole_px=16, holes_chance=0.5)
    boxes = damage(ranges, 1000).boxes
    heights, widths = boxes[..., 1] - boxes[..., 0], boxes[..., 3] - boxes[..., 2]
    counts = (heights > 0).sum(axis=1)
    assert set(counts) == set(range(9))
    assert (counts > 0).mean() == pytest.approx(0.5, abs=0.05)
    assert heights.max() == widths.max() == 16
    assert boxes.min() >= 0
    assert boxes.max() <= 224
    image = np.full((1, 224, 224, 1), 50, np.uint8)
    one = damage(Ranges(holes=8, hole_px=16, holes_chance=1.0), 1)
    spoil(image, one, noise_std=0.0, fill=(128.0,))
    expected = np.full((224, 224), 50)
    for top, bottom, left, right in one.boxes[0]:
        expected[top:bottom, left:right] = 128
    assert np.array_equal(image[0, ..., 0], expected)
    assert 0 < (expected == 128).sum() <= 8 * 16 * 16


def test_holes_shrink_with_small_images() -> None:
    boxes = damage(Ranges(holes=8, hole_px=16, holes_chance=1.0), 300, (56, 56)).boxes
    assert (boxes[..., 1] - boxes[..., 0]).max() == 4


def test_an_erased_rectangle_keeps_to_its_share_and_is_not_done_twice() -> None:
    policy = named("full")
    boxes = policy.damage(draw(policy, 1000)).boxes[:, -1]
    areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / 64**2
    assert (areas > 0).mean() == pytest.approx(0.25, abs=0.05)
    assert areas[areas > 0].min() > 0.018
    assert areas.max() < 0.21
    assert named("full", erase=0.3).ranges.erase == 0.0
