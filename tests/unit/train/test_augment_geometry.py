from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.core.sections import AugmentSection
from sortal.train.augment import AUGMENTATIONS, ClassFacts, Draw
from sortal.train.augment.geometry import DRAWS, Views, choose_views, maps, warp
from sortal.train.augment.ranges import Ranges
from sortal.train.augment.varied import Varied, center, vary, with_margin

CLASSES = ClassFacts(names=("a", "b"), counts=np.array([60, 60]))
SPEC = PreprocessSpec(size=(64, 64), mean=(0.5,) * 3, std=(0.2,) * 3)


def named(name: str, section: AugmentSection | None = None, spec: PreprocessSpec = SPEC) -> Varied:
    policy: Varied = AUGMENTATIONS.get(name)(section or AugmentSection(name=name), spec, CLASSES)
    return policy


def draw(policy: Varied, count: int, seed: int = 0) -> Draw:
    numbers = np.random.default_rng(seed).random((count, policy.draws), dtype=np.float32)
    return Draw(uniforms=numbers, labels=np.zeros(count, np.int64), samples=np.arange(count), epoch=0)


def views(ranges: Ranges, count: int = 1, size: tuple[int, int] = (64, 64), seed: int = 0) -> Views:
    u = np.random.default_rng(seed).random((count, DRAWS), dtype=np.float32)
    return choose_views(ranges, u, chiral=np.zeros(count, np.bool_), inner=(1.0, 1.0), size=size)


def seen(image: Pixels, view: Views, size: tuple[int, int] | None = None) -> Pixels:
    shape = (image.shape[0], image.shape[1])
    count = len(view.zoom)
    return warp(np.repeat(image[None], count, 0), maps(view, shape, size or shape), size or shape, fill=None)


def texture(height: int, width: int, channels: int = 3) -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels)).astype(np.uint8)


def smooth(side: int = 64) -> Pixels:
    y, x = np.mgrid[:side, :side] / side
    return (np.stack([np.sin(4 * x + y), np.cos(3 * y * x), y - x * y], 2) * 80 + 128).astype(np.uint8)


def dot(row: int, column: int, side: int = 33) -> Pixels:
    image = np.zeros((side, side, 3), np.uint8)
    image[row, column] = 255
    return image


@pytest.mark.parametrize(("name", "largest"), [("rot15", 15.0), ("rot30", 30.0)])
def test_angles_stay_in_range_and_cover_both_signs(name: str, largest: float) -> None:
    policy = named(name)
    angles = policy.views(draw(policy, 1000)).angle
    assert np.abs(angles).max() <= largest
    assert np.abs(angles).max() > 0.95 * largest
    assert 0.4 < (angles > 0).mean() < 0.6


def test_an_angle_turns_pixels_counter_clockwise_by_so_much() -> None:
    plain = views(Ranges(), 2)
    found = seen(dot(16, 28), replace(plain, angle=np.array([30.0, -30.0])))
    for image, angle in zip(found, (30.0, -30.0), strict=True):
        weights = image[..., 0].astype(np.float64)
        rows, columns = np.mgrid[:33, :33]
        row, column = (weights * rows).sum() / weights.sum(), (weights * columns).sum() / weights.sum()
        assert np.degrees(np.arctan2(16 - row, column - 16)) == pytest.approx(angle, abs=1.5)
        assert np.hypot(16 - row, column - 16) == pytest.approx(12, abs=0.3)


def test_zoom_factors_stay_within_0_8_and_1_2_and_scale_distances() -> None:
    policy = named("full")
    factors = policy.views(draw(policy, 1000)).zoom
    assert factors.min() >= 0.8
    assert factors.max() <= 1.2
    assert factors.min() < 0.82
    assert factors.max() > 1.18
    bar = np.zeros((101, 101, 1), np.uint8)
    bar[:, 31:70] = 255
    for factor in (0.8, 1.2):
        width = (seen(bar, replace(views(Ranges()), zoom=np.array([factor])))[0, 50, :, 0] > 127).sum()
        assert width == pytest.approx(39 * factor, abs=1.5)


def test_crops_keep_the_share_of_the_area_that_was_asked_for() -> None:
    asked = AugmentSection(crop_scale=(0.6, 0.8))
    for policy, low, high in ((named("basic", asked), 0.6, 0.8), (named("industrial"), 0.7, 1.0)):
        extent = policy.views(draw(policy, 1000)).extent
        areas = extent.prod(axis=1)
        assert areas.min() >= low - 1e-6
        assert areas.max() <= high + 1e-6
        centers = policy.views(draw(policy, 1000)).center
        assert (np.abs(centers - 0.5) <= (1 - extent) / 2 + 1e-9).all()


def test_crops_of_torchvision_basic_are_distributed_as_torchvisions() -> None:
    policy = named("torchvision-basic")
    view = policy.views(draw(policy, 4000))
    torch.manual_seed(0)
    blank = torch.zeros(1, 1000, 1000)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]) / 1000
    levels = np.linspace(0.05, 0.95, 10)
    for ours, other in (
        (view.extent.prod(axis=1), theirs[:, 2] * theirs[:, 3]),
        (np.log(view.extent[:, 0] / view.extent[:, 1]), np.log(theirs[:, 3] / theirs[:, 2])),
        (view.center[:, 0], theirs[:, 1] + theirs[:, 3] / 2),
        (view.center[:, 1], theirs[:, 0] + theirs[:, 2] / 2),
    ):
        assert np.quantile(ours, levels) == pytest.approx(np.quantile(other, levels), abs=0.025)


def test_flips_put_pixels_where_they_belong() -> None:
    image = texture(40, 56)
    plain = views(Ranges(), 1, (40, 56))
    on = np.array([True])
    assert np.array_equal(seen(image, replace(plain, mirrored=on))[0], image[:, ::-1])
    assert np.array_equal(seen(image, replace(plain, upended=on))[0], image[::-1])
    assert np.array_equal(seen(image, replace(plain, mirrored=on, upended=on))[0], image[::-1, ::-1])


def test_quarter_turns_are_exact_and_compose_with_flips() -> None:
    image = texture(48, 48)
    for turns in range(4):
        for mirrored in (False, True):
            view = replace(views(Ranges()), turns=np.array([turns]), mirrored=np.array([mirrored]))
            expected = np.rot90(image, turns)
            assert np.array_equal(seen(image, view)[0], expected[:, ::-1] if mirrored else expected)


def test_oblong_images_are_turned_by_halves() -> None:
    assert set(views(Ranges(quarter_turns=1.0), 200, (40, 56)).turns) == {0, 2}
    assert set(views(Ranges(quarter_turns=1.0), 200, (40, 40)).turns) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("key", "field"), [("flip", "mirrored"), ("flip_vertical", "upended"), ("quarter_turns", "turns")]
)
@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5])
def test_flips_and_turns_happen_as_often_as_configured(key: str, field: str, chance: float) -> None:
    policy = named("basic", AugmentSection.model_validate({"flip": 0.0, key: chance}))
    found = np.asarray(getattr(policy.views(draw(policy, 2000)), field))
    share = (found != 0).mean() / (0.75 if key == "quarter_turns" else 1.0)  # one turn in four is by nothing
    assert share == pytest.approx(chance, abs=0.05 if chance else 0)


def test_an_inner_window_is_exactly_the_validation_crop() -> None:
    for size, crop in (((64, 64), 0.875), ((30, 47), 0.9), ((56, 80), 1.0)):
        spec = SPEC.model_copy(update={"size": size, "crop": crop})
        policy = vary(Ranges(rotate=1.0), AugmentSection(), spec, CLASSES)
        photo = texture(150, 150)
        kept = prepare(with_margin(spec), photo)
        expected = prepare(spec, photo).astype(int)
        found = center(kept[None], size, policy.inner)[0].astype(int)
        off = [np.abs(np.roll(found, step, axis=(0, 1)) - expected).mean() for step in ((0, 0), (0, 1), (1, 0), (1, 1))]
        assert min(off) == pytest.approx(0, abs=8 if size == (30, 47) else 0)


def test_whole_windows_and_the_warp_agree() -> None:
    image = smooth(96)
    ranges = Ranges(crop_scale=(0.4, 0.9), flip=0.5, flip_vertical=0.5, quarter_turns=1.0, scale=(0.8, 1.2))
    view = views(ranges, 60)
    straight = seen(image, view, (64, 64)).astype(int)
    slanted = seen(image, replace(view, angle=np.full(60, 1e-4)), (64, 64)).astype(int)
    assert np.abs(straight - slanted).mean() < 1.5  # windows begin and end at whole pixels
    assert np.quantile(np.abs(straight - slanted), 0.99) <= 8


def test_whole_shifts_mirror_the_border() -> None:
    image = texture(32, 32)
    view = views(Ranges(shift=0.125), 1000, (32, 32))
    assert {tuple(pair) for pair in view.shift} == {(x, y) for x in range(-4, 5) for y in range(-4, 5)}
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    for found, (x, y) in zip(seen(image, view), view.shift, strict=True):
        assert np.array_equal(found, padded[4 - y : 36 - y, 4 - x : 36 - x])


def test_beyond_a_padded_image_is_its_fill() -> None:
    spec = SPEC.model_copy(update={"resize": "pad"})
    policy = named("rot30", AugmentSection(name="rot30", flip=0.0, brightness=0.0, contrast=0.0), spec)
    white = np.full((40, 64, 64, 3), 255, np.uint8)
    found = policy.apply(white, draw(policy, 40))
    corners = found[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() == 128
    assert found[:, 24:40, 24:40].min() == 255


@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_shrinking_a_lot_averages_and_stays_in_place(angle: float) -> None:
    stripes = np.zeros((128, 128, 1), np.uint8)
    stripes[:, ::2] = 200
    view = replace(views(Ranges()), angle=np.array([angle]))
    assert np.abs(seen(stripes, view, (32, 32))[0, 8:-8, 8:-8].astype(int) - 100).max() <= 3
    ramp = np.arange(128, dtype=np.uint8)[None, :, None].repeat(128, axis=0)
    large = seen(ramp, view, (128, 128))[0, ..., 0].astype(float)
    small = seen(ramp, view, (32, 32))[0, ..., 0].astype(float)
    expected = large.reshape(32, 4, 32, 4).mean(axis=(1, 3))
    assert np.abs(small - expected)[6:-6, 6:-6].max() < 1.1


def test_sixteen_bits_and_one_channel_are_read_alike() -> None:
    image = smooth(96)
    view = views(Ranges(crop_scale=(0.4, 0.9), rotate=30.0, flip=0.5), 20)
    bytes_ = seen(image, view, (64, 64)).astype(int)
    words = seen(image.astype(np.uint16) * 257, view, (64, 64)).astype(int)
    assert np.abs(words / 257 - bytes_).max() <= 1.01
    single = seen(np.ascontiguousarray(image[..., 1:2]), view, (64, 64)).astype(int)
    assert np.abs(single - bytes_[..., 1:2]).max() <= 1
