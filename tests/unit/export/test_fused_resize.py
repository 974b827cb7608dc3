"""Resizing inside a graph: Pillow's samples to the grey level, on both engines, for every shape of image."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sortal.core.errors import BundleError
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.export.fused_resize import RESIZED, add_resize
from sortal.export.images import odd_images
from sortal.export.resize_filters import SUPPORT
from sortal.export.stages import GREY_LEVELS
from sortal.runtime.engines.openvino import import_openvino

SHAPES = [(48, 64), (24, 20), (13, 11), (1, 1), (1, 30), (30, 1), (9, 400), (700, 5), (211, 177), (300, 100), (60, 21)]
"""Larger and smaller, of the network's own size, long in both directions, and tall: Pillow does rows first there."""


def spec_of(resize: str = "crop", interpolation: str = "bicubic", **fields: object) -> PreprocessSpec:
    known = {"size": (24, 20), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2), "crop": 0.875}
    return PreprocessSpec.model_validate(known | {"resize": resize, "interpolation": interpolation} | fields)


def graph(spec: PreprocessSpec) -> bytes:
    """Only the resizing."""
    made = helper.make_graph(
        [],
        "resizing",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "rows", "columns", spec.channels])],
        [helper.make_tensor_value_info(RESIZED, TensorProto.FLOAT, ["batch", spec.channels, *spec.size])],
    )
    made.node.extend(add_resize(made, spec, "image", where="model"))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def on_onnxruntime(spec: PreprocessSpec):
    session = onnxruntime.InferenceSession(graph(spec), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"image": batch})[0].transpose(0, 2, 3, 1)


def on_openvino(spec: PreprocessSpec):
    core = import_openvino().Core()
    compiled = core.compile_model(core.read_model(graph(spec), b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda batch: np.array(compiled({"image": batch})[0]).transpose(0, 2, 3, 1)


def noise(shape: tuple[int, int], channels: int = 3, seed: int = 0) -> Pixels:
    """The hardest image there is: every sample independent of its neighbors."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, channels), dtype=np.uint8)


def differing(found: np.ndarray, expected: Pixels) -> tuple[int, float]:
    """The largest difference in grey levels, and the share of samples that differ at all."""
    apart = np.abs(found - expected.astype(np.float64))
    return int(apart.max()), float((apart > 0).mean())


@pytest.mark.parametrize("interpolation", SUPPORT)
@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_it_is_pillow_to_the_grey_level(resize: str, interpolation: str) -> None:
    spec = spec_of(resize, interpolation)
    run = on_onnxruntime(spec)
    for shape in SHAPES:
        image = noise(shape)
        most, share = differing(run(image[None])[0], prepare(spec, image))
        assert most <= 1, shape
        assert share < 0.1, shape


@pytest.mark.parametrize(
    ("resize", "interpolation"), [("crop", "bicubic"), ("pad", "bilinear"), ("stretch", "lanczos")]
)
def test_openvino_resizes_alike(resize: str, interpolation: str) -> None:
    spec = spec_of(resize, interpolation)
    run = on_openvino(spec)
    for shape in SHAPES:
        image = noise(shape)
        most, share = differing(run(image[None])[0], prepare(spec, image))
        assert most <= GREY_LEVELS, shape
        assert share < 0.1, shape


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 400), st.integers(1, 400))
def test_every_size_is_cut_where_the_reference_cuts(height: int, width: int) -> None:
    """A gradient shows by how much a cut or a scale is off; a pixel would be many grey levels."""
    spec = spec_of(crop=0.83, size=(17, 32))
    rows, columns = np.linspace(0, 255, height), np.linspace(255, 0, width)
    image = np.stack(np.broadcast_arrays(rows[:, None], columns, (rows[:, None] + columns) / 2), axis=2).astype(
        np.uint8
    )
    most, _ = differing(_RUNS.setdefault("gradient", on_onnxruntime(spec))(image[None])[0], prepare(spec, image))
    assert most <= 1


_RUNS: dict[str, object] = {}


def test_several_images_of_one_size_and_grey_ones() -> None:
    spec = spec_of(channels=1, mean=(0.5,), std=(0.2,))
    images = np.stack([noise((50, 40), 1, seed) for seed in range(3)])
    found = on_onnxruntime(spec)(images)
    assert found.shape == (3, 24, 20, 1)
    for one, image in zip(found, images, strict=True):
        assert differing(one, prepare(spec, image))[0] <= 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"interpolation": "nearest"}, "not with nearest"),
        ({"interpolation": "box"}, "not with box"),
        ({"region": (0.1, 0.1, 0.9, 0.9)}, "cuts no region"),
        ({"window": (100.0, 50.0)}, "no intensity window"),
    ],
)
def test_what_a_graph_cannot_do_to_the_grey_level_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(BundleError, match=said) as refused:
        graph(spec_of(**fields))
    assert "onnx-uint8" in str(refused.value)


def test_the_made_images_hold_what_peoples_own_seldom_do() -> None:
    made = {item.name: item.open() for item in odd_images(channels=3, depth=8)}
    shapes = [image.shape for image in made.values()]
    assert (1, 1, 3) in shapes
    assert any(shape[0] == 1 and shape[1] > 10 for shape in shapes)
    assert any(shape[1] > 100 * shape[0] for shape in shapes)
    assert {2, 4} <= {len(shape) if len(shape) == 2 else shape[2] for shape in shapes}
    assert {image.dtype for image in made.values()} == {np.dtype(np.uint8), np.dtype(np.uint16)}
