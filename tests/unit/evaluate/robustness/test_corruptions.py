"""Corruptions: every member of the table keeps shape and type, grows with strength, and depends on its seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from sortal.evaluate.robustness import CORRUPTIONS
from sortal.evaluate.robustness.corruption import STRENGTHS, Corruption

NAMES = CORRUPTIONS.names()


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def picture(height: int = 96, width: int = 120) -> np.ndarray:
    """Smooth shapes with edges in three colors, off the middle so that turning and moving show."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=-1) * 50 + 128
    waves[height // 5 : height // 2, width // 6 : width // 2] = (200, 60, 90)
    return waves.astype(np.uint8)


@pytest.fixture(params=NAMES)
def corruption(request: pytest.FixtureRequest) -> Corruption:
    found: Corruption = CORRUPTIONS.get(request.param)
    return found


@pytest.mark.parametrize("shape", [(96, 120), (1, 1), (3, 200), (47, 2)])
def test_shape_and_type_stay_and_the_picture_given_is_not_touched(
    corruption: Corruption, shape: tuple[int, int]
) -> None:
    pixels = picture(*shape) if min(shape) > 10 else np.full((*shape, 3), 90, np.uint8)
    before = pixels.copy()
    for strength in range(1, STRENGTHS + 1):
        changed = corruption.at(pixels, strength, generator())
        assert changed.shape == pixels.shape
        assert changed.dtype == np.uint8
    np.testing.assert_array_equal(pixels, before)


def test_a_greater_strength_changes_more(corruption: Corruption) -> None:
    pixels = picture()
    apart = [
        float(np.abs(corruption.at(pixels, strength, generator(3)).astype(int) - pixels).mean())
        for strength in range(1, STRENGTHS + 1)
    ]
    assert apart[0] > 0
    assert apart == sorted(apart)


def test_the_same_seed_gives_the_same_picture(corruption: Corruption) -> None:
    one, other = (corruption.at(picture(), 4, generator(7)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_noise_has_the_deviation_it_says() -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    found = CORRUPTIONS.get("gaussian_noise").at(flat, 3, generator())
    assert found.astype(float).std() == pytest.approx(14, rel=0.02)
    assert found.mean() == pytest.approx(128, abs=0.3)


def test_light_is_multiplied_and_clipped() -> None:
    pixels = np.full((4, 4, 3), 100, np.uint8)
    assert CORRUPTIONS.get("darkness").at(pixels, 3, generator()).max() == 50
    assert CORRUPTIONS.get("brightness").at(pixels, 5, generator()).min() == 255


def test_contrast_shrinks_around_the_mean_of_each_channel() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = (100, 200, 40)
    found = CORRUPTIONS.get("contrast").at(pixels, 5, generator()).astype(float)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), (50, 100, 20), atol=0.5)
    np.testing.assert_allclose(found[0, 0] - found[1, 0], (20, 40, 8), atol=1)


def test_a_part_of_the_picture_is_covered() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    found = CORRUPTIONS.get("occlusion").at(pixels, 3, generator())
    assert (found > 0).all(axis=2).mean() == pytest.approx(0.10, abs=0.01)


def test_a_cast_leaves_green_alone_and_goes_both_ways() -> None:
    pixels = np.full((3, 3, 3), 100, np.uint8)
    cast = CORRUPTIONS.get("color_cast")
    found = {tuple(cast.at(pixels, 3, generator(seed))[0, 0].tolist()) for seed in range(20)}
    assert found == {(120, 100, 80), (80, 100, 120)}


def test_a_centered_disc_stays_where_it_is_when_the_picture_turns_or_comes_nearer() -> None:
    y, x = np.mgrid[:101, :101] - 50
    disc = np.repeat(((x**2 + y**2 < 20**2) * 200).astype(np.uint8)[..., None], 3, axis=2)
    turned = CORRUPTIONS.get("rotation").at(disc, 5, generator())
    assert np.abs(turned.astype(int) - disc)[20:80, 20:80].mean() < 4
    area = [
        (CORRUPTIONS.get(name).at(disc, 5, generator())[25:76, 25:76] > 100).mean() for name in ("zoom_in", "zoom_out")
    ]
    assert area[0] > 0.9
    assert area[1] == pytest.approx(np.pi * 10**2 / 51**2, rel=0.1)
