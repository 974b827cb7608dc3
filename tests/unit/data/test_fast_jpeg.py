"""The fast decoder: never another verdict than the reference, exact at full scale, close to it at reduced scale."""

from __future__ import annotations

import numpy as np
import pytest

from corpus.build import CASES
from corpus.craft import exif, saved
from sortal.core.errors import ImageError
from sortal.data.containers.header import ImageHeader
from sortal.data.decode import decode
from sortal.data.fast_jpeg import MARGIN, decode_reduced, scale_for


def smooth(height: int, width: int) -> np.ndarray:
    """Something like a photograph: slow waves, an edge, a little grain."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [127 + 90 * np.sin(9 * x + k) * np.cos(7 * y - k) for k in range(3)]
    image = np.stack(waves, axis=2) + np.random.default_rng(0).normal(0, 4, (height, width, 3))
    image[:, width // 2 :] *= 0.6
    return np.clip(image, 0, 255).astype(np.uint8)


def outcome(data: bytes, needed: tuple[int, int] | None) -> str:
    try:
        height, width = decode_reduced(data, needed).size
    except ImageError as error:
        return error.code
    return f"{height}x{width}"


JPEGS = [name for name in CASES if ".jp" in name or "jpeg" in name]
OTHERS = ["plain.png", "rgb-16.png", "alpha.webp", "cmyk.tif", "cut-in-half.png"]


def test_every_odd_and_hostile_jpeg_has_the_verdict_of_the_reference() -> None:
    assert len(JPEGS) > 40
    wrong = {}
    for name in JPEGS + OTHERS:
        verdict, build = CASES[name]
        data = build()
        got = {outcome(data, None), outcome(data, (4, 4))}
        if got != {verdict}:
            wrong[name] = (verdict, got)
    assert wrong == {}


def test_full_scale_is_the_reference_exactly() -> None:
    for name in JPEGS + OTHERS:
        verdict, build = CASES[name]
        if not verdict[0].isdigit():
            continue
        data = build()
        assert np.array_equal(decode_reduced(data, None).pixels, decode(data)), name


def test_the_pixel_limit_holds() -> None:
    data = saved(smooth(40, 50), "JPEG")
    with pytest.raises(ImageError) as caught:
        decode_reduced(data, None, max_pixels=40 * 50 - 1, where="here")
    assert (caught.value.code, caught.value.where) == ("too_many_pixels", "here")


def test_damage_inside_the_pixels_is_left_to_the_reference() -> None:
    """libjpeg patches it over with a warning; a strict decoder refuses. The answer must not depend on the decoder."""
    whole = saved(smooth(200, 300), "JPEG", quality=90)
    damaged = whole[: len(whole) // 2] + b"\xff\xd9"
    expected = decode(damaged)
    found = decode_reduced(damaged, (50, 50))
    assert np.array_equal(found.pixels, expected)
    assert found.extent == found.size == (200, 300)
    assert decode_reduced(whole, (50, 50)).extent == (100, 150)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (301, 203), (64, 64)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_pixels_are_upright_means_of_the_full_ones(height: int, width: int, orientation: int) -> None:
    data = saved(smooth(height, width), "JPEG", quality=95, exif=exif(orientation))
    full = decode(data)
    found = decode_reduced(data, (15, 15))
    assert found.size == full.shape[:2]
    scale = round(found.size[0] / found.extent[0])
    assert found.extent == (full.shape[0] / scale, full.shape[1] / scale)
    if scale == 1:
        assert orientation > 1
        assert np.array_equal(found.pixels, full)
        return
    rows, columns = full.shape[0] // scale, full.shape[1] // scale
    means = full[: rows * scale, : columns * scale].reshape(rows, scale, columns, scale, 3).mean(axis=(1, 3))
    assert np.abs(found.pixels[:rows, :columns] - means).mean() < 1.0


def test_the_scale_leaves_a_margin_over_what_is_needed() -> None:
    header = ImageHeader(format="JPEG", width=2001, height=1501, mode="RGB")
    for needed in range(20, 1600, 7):
        scale = scale_for(header, (needed, needed))
        assert scale == 1 or 1501 / scale >= MARGIN * needed
        assert scale == 8 or 1501 / (2 * scale) < MARGIN * needed
    turned = ImageHeader(format="JPEG", width=2001, height=1501, mode="RGB", orientation=6)
    assert scale_for(turned, (100, 100)) == 1
    assert scale_for(ImageHeader(format="JPEG", width=2000, height=1504, mode="RGB", orientation=6), (100, 100)) == 8
