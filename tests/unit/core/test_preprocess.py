"""The preprocessing reference against golden pixels, Pillow, torchvision and closed forms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from golden.preprocess import STORED, cases, decoded, prepared, source
from sortal.core.errors import InputError
from sortal.core.preprocess import (
    INTERPOLATIONS,
    PreprocessSpec,
    apply,
    center_crop,
    cover,
    fit_inside,
    normalize,
    prepare,
)

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
GOLDEN = json.loads(STORED.read_text(encoding="utf-8"))


def spec(**options: Any) -> PreprocessSpec:
    return PreprocessSpec.model_validate({"size": (32, 32), **IMAGENET, **options})


def noise(height: int, width: int, channels: int = 3, *, depth: int = 8, seed: int = 0) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key=seed))
    return random.integers(0, 1 << depth, (height, width, channels), dtype=np.uint8 if depth == 8 else np.uint16)


@pytest.mark.parametrize("name", GOLDEN["prepared"])
def test_golden_pixels_of_every_option(name: str) -> None:
    stored = GOLDEN["prepared"][name]
    np.testing.assert_array_equal(prepared(stored), np.asarray(stored["pixels"]))


@pytest.mark.parametrize("key", GOLDEN["decoded"])
def test_golden_pixels_of_decoding(key: str) -> None:
    name, channels, _, depth = key.split(" ")
    assert decoded(name, int(channels), int(depth)) == GOLDEN["decoded"][key]


def test_the_golden_file_covers_every_case() -> None:
    assert set(GOLDEN["prepared"]) == set(cases())


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (224, 224)])
@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (33, 97), (300, 301), (20, 20), (1, 9)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_crop_equals_torchvision_on_pillow_images(
    size: tuple[int, int], shape: tuple[int, int], interpolation: str
) -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    image = noise(*shape)
    ours = prepare(spec(size=size, crop=0.875, interpolation=interpolation), image)
    resized = cover(shape, (int(size[0] / 0.875), int(size[1] / 0.875)))
    rule = int(size[0] / 0.875) if size[0] == size[1] else resized
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.CenterCrop(size)(transforms.Resize(rule, mode)(Image.fromarray(image)))
    np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_the_whole_chain_equals_torchvision_tensors() -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2")
    image = noise(100, 140)
    chain = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToImage(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(*IMAGENET.values()),
        ]
    )
    theirs = chain(Image.fromarray(image)).numpy()
    ours = apply(spec(size=(224, 224)), image)
    assert ours.shape == (3, 224, 224)
    assert np.abs(ours - theirs).max() < 1e-5


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_stretch_equals_pillow(interpolation: str) -> None:
    image = noise(40, 23)
    ours = prepare(spec(size=(17, 31), resize="stretch", interpolation=interpolation), image)
    theirs = Image.fromarray(image).resize((31, 17), INTERPOLATIONS[interpolation])
    np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_pad_keeps_the_aspect_and_fills_with_the_mean_color() -> None:
    image = noise(20, 40)
    ours = prepare(spec(size=(32, 32), resize="pad"), image)
    np.testing.assert_array_equal(ours[8:24], np.asarray(Image.fromarray(image).resize((32, 16), Image.BICUBIC)))
    assert (ours[:8] == [124, 116, 104]).all()
    assert (ours[24:] == [124, 116, 104]).all()
    border = normalize(spec(size=(32, 32)), ours[None])[0, :, :8]
    assert np.abs(border).max() < 0.5 / 255 / 0.224 + 1e-6


def test_16_bits_agree_with_8_bits_where_both_can_hold_the_image() -> None:
    image = noise(50, 70)
    narrow = prepare(spec(interpolation="bilinear"), image)
    wide = prepare(spec(depth=16, interpolation="bilinear"), image.astype(np.uint16) * np.uint16(257))
    assert np.abs(wide / 257 - narrow).max() <= 1.0


def test_16_bits_overshoot_is_clipped_and_not_wrapped() -> None:
    image = np.zeros((40, 40, 1), np.uint16)
    image[:, 20:] = 65535
    out = prepare(spec(size=(33, 33), channels=1, depth=16, mean=(0.5,), std=(0.5,), interpolation="lanczos"), image)
    assert (np.diff(out[16, :, 0].astype(int)) >= -2000).all()
    assert out.min() == 0
    assert out.max() == 65535


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ((0.0, 0.0, 1.0, 1.0), (slice(0, 20), slice(0, 30))),
        ((0.1, 0.5, 0.4, 1.0), (slice(10, 20), slice(3, 12))),
        ((0.11, 0.0, 0.12, 0.01), (slice(0, 1), slice(3, 4))),
        ((0.999999999999, 0.0, 1.0, 1.0), (slice(0, 20), slice(29, 30))),
    ],
)
def test_region_cuts_every_pixel_it_touches(region: tuple[float, ...], expected: tuple[slice, slice]) -> None:
    image = noise(20, 30)
    cut = image[expected]
    whole = spec(size=cut.shape[:2], resize="stretch", region=region)
    np.testing.assert_array_equal(prepare(whole, image), cut)


def test_window_maps_its_ends_to_the_full_range() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    windowed = spec(size=(16, 16), resize="stretch", channels=1, mean=(0.5,), std=(0.5,), window=(100.0, 100.0))
    out = prepare(windowed, image).ravel()
    assert (out[:51] == 0).all()
    assert (out[150:] == 255).all()
    assert list(out[50:151:25]) == [0, 64, 128, 191, 255]
    assert (np.diff(out.astype(int)) >= 0).all()


@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    target=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_cover_covers_and_fit_inside_fits(shape: tuple[int, int], target: tuple[int, int]) -> None:
    covering, inside = cover(shape, target), fit_inside(shape, target)
    assert covering[0] >= target[0]
    assert covering[1] >= target[1]
    assert covering[0] == target[0] or covering[1] == target[1]
    assert 1 <= inside[0] <= target[0]
    assert 1 <= inside[1] <= target[1]
    assert inside[0] == target[0] or inside[1] == target[1]


@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    resize=st.sampled_from(["crop", "pad", "stretch"]),
    depth=st.sampled_from([8, 16]),
    channels=st.sampled_from([1, 3]),
    crop=st.floats(0.3, 1.0),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_image_becomes_exactly_the_size(
    shape: tuple[int, int], size: tuple[int, int], resize: str, depth: int, channels: int, crop: float
) -> None:
    means = {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    options = spec(size=size, resize=resize, depth=depth, channels=channels, crop=crop, **means)
    image = noise(*shape, channels, depth=depth)
    out = prepare(options, image)
    assert out.shape == (*size, channels)
    assert out.dtype == image.dtype


def test_a_very_long_image_is_cut_without_enlarging_all_of_it() -> None:
    image = np.repeat(noise(1, 20_000), 1, axis=0)
    out = prepare(spec(size=(224, 224)), image)
    assert out.shape == (224, 224, 3)
    middle = image[0, 9_990:10_010].astype(int)
    assert (np.abs(out[112, 112].astype(int) - middle).sum(axis=1)).min() < 150


@pytest.mark.parametrize("shape", [(8, 140), (140, 8)])
@pytest.mark.parametrize("depth", [8, 16])
def test_the_cut_of_a_long_image_equals_resizing_it_whole(shape: tuple[int, int], depth: int) -> None:
    options = spec(size=(28, 28), depth=depth, interpolation="bilinear")
    image = noise(*shape, depth=depth)
    covering = cover(shape, (32, 32))
    assert covering[0] * covering[1] > 16 * 32 * 32
    whole = prepare(spec(size=covering, resize="stretch", depth=depth, interpolation="bilinear"), image)
    difference = np.abs(prepare(options, image).astype(int) - center_crop(whole, 28, 28).astype(int))
    assert difference.max() <= (1 if depth == 8 else 4)


def test_normalize_is_the_closed_form_in_channel_order() -> None:
    batch = noise(6, 5)[None].repeat(2, axis=0)
    out = normalize(spec(), batch)
    assert out.dtype == np.float32
    assert out.shape == (2, 3, 6, 5)
    assert out.flags.c_contiguous
    exact = (batch.astype(np.float64) / 255 - IMAGENET["mean"]) / IMAGENET["std"]
    assert np.abs(out - exact.transpose(0, 3, 1, 2)).max() < 1e-5


def test_zero_mean_and_unit_std_give_the_range_0_to_1() -> None:
    image = np.asarray([[[0], [51], [255]]], np.uint8)
    plain = spec(size=(1, 3), channels=1, mean=(0.0,), std=(1.0,), resize="stretch")
    np.testing.assert_allclose(apply(plain, image), [[[0.0, 0.2, 1.0]]], atol=1e-7)
    wide = plain.model_copy(update={"depth": 16})
    np.testing.assert_allclose(apply(wide, image.astype(np.uint16) * 257), [[[0.0, 0.2, 1.0]]], atol=1e-7)


def test_what_is_prepared_is_writable_and_leaves_its_input_alone() -> None:
    image = source("wide", 3, 8).copy()
    before = image.copy()
    for resize in ("crop", "pad", "stretch"):
        out = prepare(spec(size=(5, 7), resize=resize), image)
        out[:] = 0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_pixels_that_do_not_fit_the_spec_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="pixels must be"):
        prepare(spec(), image)


@pytest.mark.parametrize(
    "options",
    [
        {"mean": (0.5,)},
        {"std": (0.5, 0.5, 0.0)},
        {"std": (0.5, 0.5, float("nan"))},
        {"mean": (0.5, 0.5, float("inf"))},
        {"region": (0.5, 0.0, 0.5, 1.0)},
        {"region": (0.0, 0.0, 1.5, 1.0)},
        {"window": (10.0, 0.0)},
        {"crop": 0.0},
        {"size": (0, 5)},
        {"interpolation": "cubic"},
        {"layout": "NHWC"},
        {"unknown": 1},
    ],
)
def test_specs_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**options)
