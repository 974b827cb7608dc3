"""Second look: moved, turned, lighter and softer copies of textures are one picture, others are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from sortal.data.second_look import LEAST_SEEN, SECOND_PX, unlikeness

LARGE_PX = 256


def _texture(seed: int, *, outline: int = 0, detail: float = 12.0) -> Image.Image:
    """A random outline with random detail on it, in 256 pixels."""
    shapes, fine = (np.random.Generator(np.random.Philox(key=key)) for key in (outline, 1000 + seed))
    coarse = Image.fromarray(shapes.integers(60, 196, (6, 6), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((LARGE_PX, LARGE_PX), Image.Resampling.BICUBIC), np.float32)
    grains = Image.fromarray(fine.normal(0, 1, (48, 48)).astype(np.float32))
    grain = np.asarray(grains.resize((LARGE_PX, LARGE_PX), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(smooth + detail * grain, 0, 255).astype(np.uint8))


def _small(image: Image.Image) -> np.ndarray:
    square = (SECOND_PX, SECOND_PX)
    return np.asarray(image.resize(square, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _seen(one: Image.Image, other: Image.Image) -> float:
    pictures = np.stack([_small(one), _small(other)])
    there, back = unlikeness(pictures, np.asarray([0, 1]), np.asarray([1, 0]))
    assert (there <= 1) == (back <= 1)
    return float(there)


def _moved(image: Image.Image, *, shift: float, scale: float, turn: float) -> Image.Image:
    """The part of the image in a box that is shifted (share of the side), smaller and turned (degrees)."""
    turned = image.rotate(turn, Image.Resampling.BICUBIC)
    side = LARGE_PX * (0.93 - scale)
    left = (LARGE_PX - side) / 2 + shift * LARGE_PX
    return turned.resize((LARGE_PX, LARGE_PX), Image.Resampling.BICUBIC, (left, left, left + side, left + side))


def test_a_picture_is_itself() -> None:
    assert _seen(_texture(1), _texture(1)) == pytest.approx(0, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(
    shift=st.floats(-0.02, 0.02),
    scale=st.floats(0, 0.04),
    turn=st.floats(-2, 2),
    gain=st.floats(0.8, 1.2),
    seed=st.integers(0, 50),
)
def test_a_moved_and_lighter_picture_is_one(shift: float, scale: float, turn: float, gain: float, seed: int) -> None:
    image = _texture(seed, outline=seed)
    moved = np.asarray(_moved(image, shift=shift, scale=scale, turn=turn), np.float32) * gain
    assert _seen(image, Image.fromarray(np.clip(moved + 0.5, 0, 255).astype(np.uint8))) <= 1


@pytest.mark.parametrize("blur", [1, 2, 4])
def test_a_softer_picture_is_one(blur: int) -> None:
    image = _texture(3)
    assert _seen(image, image.filter(ImageFilter.GaussianBlur(blur))) <= 1


def test_noise_of_a_camera_is_no_difference() -> None:
    image = _texture(5)
    noise = np.random.Generator(np.random.Philox(key=9)).normal(0, 3, (LARGE_PX, LARGE_PX))
    assert _seen(image, Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))) <= 1


@pytest.mark.parametrize("seed", range(6))
def test_other_detail_on_the_same_outline_is_another_picture(seed: int) -> None:
    assert _seen(_texture(2 * seed, outline=seed), _texture(2 * seed + 1, outline=seed)) > 2


def test_what_moved_further_than_a_copy_is_another_picture() -> None:
    image = _texture(7, outline=7)
    assert _seen(image, _moved(image, shift=0.0, scale=0.0, turn=6.0)) == np.inf
    assert 0.5 < LEAST_SEEN < 1
    assert _seen(image, image.resize((LARGE_PX, LARGE_PX), box=(48, 48, 208, 208))) == np.inf


def test_pairs_are_judged_alone_whatever_their_neighbors() -> None:
    pictures = np.stack([_small(_texture(seed, outline=seed // 2)) for seed in range(6)])
    pictures = np.concatenate([pictures, np.clip(pictures.astype(int) + 9, 0, 255).astype(np.uint8)])
    first, second = (side.ravel() for side in np.meshgrid(np.arange(12), np.arange(12, step=2)))
    together = unlikeness(pictures, first, second)
    alone = [unlikeness(pictures, first[n : n + 1], second[n : n + 1])[0] for n in range(0, 72, 7)]
    assert (together <= 1).tolist() == (first % 6 == second % 6).tolist()
    np.testing.assert_allclose(together[::7], alone, rtol=1e-3, atol=1e-3)
    assert len(unlikeness(pictures, first[:0], second[:0])) == 0
