"""What stays in the decoder's memory becomes the same pixels as what was copied out of it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from corpus.build import CASES
from corpus.craft import picture, saved
from sortal.core.errors import ImageError
from sortal.core.preprocess import PreprocessSpec, prepare
from sortal.data.decode import to_pixels, to_source

GEOMETRIES = {
    "crop": {"size": (24, 20)},
    "enlarged": {"size": (96, 96), "crop": 1.0},
    "as it is": {"size": picture().shape[:2], "crop": 1.0},
    "pad": {"size": (24, 24), "resize": "pad", "interpolation": "lanczos"},
    "stretch": {"size": (9, 31), "resize": "stretch", "interpolation": "bilinear"},
    "region": {"size": (16, 16), "region": (0.1, 0.2, 0.8, 0.9)},
    "window": {"size": (16, 16), "window": (100.0, 80.0)},
    "elongated": {"size": (40, 2)},
}


def spec(channels: int, depth: int, **options: object) -> PreprocessSpec:
    numbers = {"mean": (0.5,) * channels, "std": (0.25,) * channels, "channels": channels, "depth": depth}
    return PreprocessSpec.model_validate({**numbers, **options})


def answer(route: object, name: str, wanted: PreprocessSpec) -> np.ndarray | str:
    try:
        source = route(CASES[name][1](), channels=wanted.channels, depth=wanted.depth)  # type: ignore[operator]
        return prepare(wanted, source)
    except ImageError as error:
        return error.code


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_every_file_of_the_corpus_gives_the_same_pixels_or_the_same_error(channels: int, depth: int) -> None:
    wanted = spec(channels, depth, size=(24, 20))
    for name in CASES:
        expected, found = answer(to_pixels, name, wanted), answer(to_source, name, wanted)
        assert type(expected) is type(found), name
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_geometry_gives_the_same_pixels(geometry: str, channels: int, kind: str) -> None:
    image = Image.fromarray(picture())
    data = saved(image if channels == 3 else image.convert("L"), kind)
    wanted = spec(channels, 8, **GEOMETRIES[geometry])
    source = to_source(data, channels=wanted.channels)
    assert isinstance(source, Image.Image)
    found = prepare(wanted, source)
    np.testing.assert_array_equal(found, prepare(wanted, to_pixels(data, channels=wanted.channels)))
    assert found.shape == (*wanted.size, channels)
    assert found.flags.writeable


def test_what_has_to_be_converted_or_turned_comes_as_pixels() -> None:
    grey, color = saved(Image.fromarray(picture()).convert("L"), "PNG"), saved(picture(), "PNG")
    assert isinstance(to_source(grey, channels=3), np.ndarray)
    assert isinstance(to_source(color, channels=1), np.ndarray)
    assert isinstance(to_source(color, depth=16), np.ndarray)
    assert isinstance(to_source(picture()), np.ndarray)
