"""The preprocessing of the Android and iOS samples equals the reference to the pixel, shown by its port to Python."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import phonepreprocess as phone
from sortal.core.preprocess import PreprocessSpec, prepare

EXAMPLES = Path(__file__).parents[2] / "examples"
GOLDEN = (
    EXAMPLES / "android/app/src/test/resources/golden.json",
    EXAMPLES / "ios/Tests/SortalSampleTests/Resources/golden.json",
)
SIZES = [(1, 1), (7, 5), (24, 20), (31, 64), (90, 17), (200, 3), (3, 190), (48, 48)]


def on_phone(spec: PreprocessSpec, image: np.ndarray) -> np.ndarray:
    asked = phone.Spec(spec.size[0], spec.size[1], spec.resize, spec.crop, spec.interpolation, spec.mean)
    given = phone.Pixels(image.shape[1], image.shape[0], image.shape[2], image.tobytes())
    found = phone.prepare(asked, given)
    return np.frombuffer(found.data, np.uint8).reshape(found.height, found.width, found.channels)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_every_pixel_is_the_reference_s(resize, interpolation):
    random = np.random.default_rng(7)
    spec = PreprocessSpec(
        size=(24, 20), resize=resize, crop=0.875, interpolation=interpolation,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip
    for height, width in SIZES:
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        np.testing.assert_array_equal(on_phone(spec, image), prepare(spec, image), str((height, width)))


def test_very_long_images_are_cut_as_the_reference_cuts_them():
    spec = PreprocessSpec(size=(8, 8), mean=(0.5,), std=(0.5,), channels=1)
    for shape in [(4, 400, 1), (331, 3, 1), (2, 77, 1)]:
        image = np.random.default_rng(shape[1]).integers(0, 256, shape, np.uint8)
        np.testing.assert_array_equal(on_phone(spec, image), prepare(spec, image))


def test_golden_vectors_are_what_the_generator_writes():
    made = runpy.run_path(str(EXAMPLES / "phone_golden.py"))["golden"]()
    for path in GOLDEN:
        assert json.loads(path.read_text(encoding="utf-8")) == made


def test_golden_vectors_hold_for_the_samples_algorithm():
    cases = json.loads(GOLDEN[0].read_text(encoding="utf-8"))["cases"]
    assert {case["spec"]["resize"] for case in cases} == {"crop", "pad", "stretch"}
    for case in cases:
        shape = (case["image"]["height"], case["image"]["width"], case["image"]["channels"])
        image = np.frombuffer(bytes.fromhex(case["image"]["pixels"]), np.uint8).reshape(shape)
        spec = PreprocessSpec.model_validate(case["spec"])
        assert on_phone(spec, image).tobytes().hex() == case["prepared"]


@pytest.mark.parametrize(
    "source",
    [
        "android/app/src/main/java/sortal/sample/Preprocess.kt",
        "ios/Sources/SortalSample/Preprocess.swift",
    ],
)
def test_the_samples_have_every_function_of_the_port(source):
    text = (EXAMPLES / source).read_text(encoding="utf-8")
    names = ["prepare", "cover", "fitInside", "centerCrop", "pad", "resize", "weights", "toFixed", "resizeAcross"]
    names += ["resizeDown", "filterSupport", "filterValue", "sinc", "roundHalfEven"]
    word = "fun" if source.endswith(".kt") else "func"
    assert [name for name in names if f"{word} {name}(" not in text] == []
