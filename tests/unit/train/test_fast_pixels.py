"""Fast preparation against the reference: same geometry in every mode, bounded difference, reference where it must."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corpus.craft import exif, saved
from sortal.core.errors import ImageError
from sortal.core.preprocess import PreprocessSpec, prepare
from sortal.data.decode import to_pixels
from sortal.data.open import images
from sortal.data.synth.dataset import synthesize
from sortal.data.synth.options import SynthOptions
from sortal.train.fast_pixels import fast_prepare


def spec(size: tuple[int, int], **settings: object) -> PreprocessSpec:
    return PreprocessSpec.model_validate({"size": size, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)} | settings)


def grained(height: int, width: int, grain: float = 6.0) -> np.ndarray:
    """Waves and grain: a shift by half a pixel is seen at once."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 60 * np.sin(x / 16 + k) * np.cos(y / 12 - k) for k in range(3)]
    return np.clip(
        np.stack(waves, axis=2) + np.random.default_rng(0).normal(0, grain, (height, width, 3)), 0, 255
    ).astype(np.uint8)


def difference(chosen: PreprocessSpec, data: bytes) -> float:
    """Mean over pixels, in grey levels."""
    expected, found = prepare(chosen, to_pixels(data)), fast_prepare(chosen, data)
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    return float(np.abs(found.astype(int) - expected).mean())


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_every_way_to_fit_has_the_geometry_of_the_reference(interpolation: str, resize: str) -> None:
    chosen = spec((64, 80), resize=resize, interpolation=interpolation)
    for shape in ((375, 500), (505, 381), (20, 37), (64, 64), (40, 1200), (131, 171)):
        image = grained(*shape, grain=0)
        for orientation in (1, 6):
            assert difference(chosen, saved(image, "JPEG", quality=92, exif=exif(orientation))) < 1.0, shape
        assert difference(chosen, saved(image, "BMP")) < 0.1, shape


def test_drawn_parts_with_their_sensor_noise_differ_by_less_than_two_grey_levels(tmp_path: Path) -> None:
    synthesize(tmp_path / "parts", SynthOptions(classes=2, images=6, size_px=(500, 376)))
    for path in sorted((tmp_path / "parts").rglob("*.jpg")):
        for size in (64, 96, 160, 224):
            assert difference(spec((size, size)), path.read_bytes()) < 2.0


@pytest.mark.real
def test_real_photographs_differ_by_less_than_two_grey_levels() -> None:
    path = Path(os.environ.get("SORTAL_SHARED", Path(__file__).parents[4] / "shared")) / "data" / "grocery.tar"
    if not path.is_file():
        pytest.skip(f"{path} is not here; set SORTAL_SHARED to the folder that holds data/grocery.tar")
    table = images(path)
    found = [difference(spec((size, size)), table.read(row)) for row in range(0, 5000, 500) for size in (64, 128, 224)]
    assert max(found) < 2.0
    assert np.mean(found) < 0.7


def test_ignoring_a_partial_last_row_would_be_noticed() -> None:
    """The control of the test above: the same pixels resized as if 47 rows of an eighth were 47 whole ones."""
    chosen = spec((36, 36), resize="stretch")
    data = saved(grained(369, 369), "JPEG", quality=92)
    whole = Image.open(io.BytesIO(data)).convert("RGB").resize((376, 376), Image.Resampling.BICUBIC)
    wrong = prepare(chosen, np.asarray(whole.crop((0, 0, 369, 369))))
    right = prepare(chosen, to_pixels(data))
    assert np.abs(wrong.astype(int) - right).mean() > 2 * difference(chosen, data)


@pytest.mark.parametrize(
    "settings",
    [
        {"interpolation": "lanczos"},
        {"window": (120.0, 200.0)},
        {"region": (0.1, 0.2, 0.9, 0.7)},
        {"depth": 16},
        {"channels": 1, "mean": (0.5,), "std": (0.2,)},
    ],
)
def test_what_the_fast_way_is_not_made_for_is_the_reference_exactly(settings: dict[str, object]) -> None:
    chosen = spec((40, 40), **settings)
    data = saved(grained(150, 190), "JPEG")
    expected = prepare(chosen, to_pixels(data, channels=chosen.channels, depth=chosen.depth))
    assert np.array_equal(fast_prepare(chosen, data), expected)


def test_arrays_and_read_only_arrays_are_prepared_too() -> None:
    array = grained(90, 70)
    array.flags.writeable = False
    chosen = spec((32, 32))
    assert np.abs(fast_prepare(chosen, array).astype(int) - prepare(chosen, array)).mean() < 0.25
    same = spec((90, 70), resize="stretch")
    assert np.array_equal(fast_prepare(same, array), array)


def test_a_damaged_file_is_an_image_error() -> None:
    data = saved(grained(90, 70), "JPEG")
    with pytest.raises(ImageError) as caught:
        fast_prepare(spec((32, 32)), data[: len(data) // 2])
    assert caught.value.code == "truncated"
