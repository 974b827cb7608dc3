"""The size controller on a simulated device: it finds the largest size that fits, and stays there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.errors import InputError
from sortal.core.report import Metric
from sortal.export.publish import stamp, write_artifact
from sortal.runtime.resolution import WINDOW, AdaptiveClassifier, ResolutionController

SIZES = tuple(side * side for side in (96, 128, 160, 224))


def simulate(controller: ResolutionController, ns_a_pixel: float, images: int, *, noise: float = 0.0) -> list[int]:
    """Indices in use while a device takes so many nanoseconds a pixel."""
    random, used = np.random.default_rng(0), []
    for _ in range(images):
        ms = SIZES[controller.current] * ns_a_pixel / 1e6 * (1 + noise * random.random())
        controller.observe(ms)
        used.append(controller.current)
    return used


@pytest.mark.parametrize(("ns", "reached"), [(100.0, 3), (500.0, 2), (800.0, 1), (3000.0, 0)])
def test_the_largest_size_that_fits_with_headroom_is_reached_and_kept(ns, reached):
    used = simulate(ResolutionController(SIZES, target_ms=20.0), ns, 600, noise=0.1)
    assert used[-1] == reached
    assert max(used) == reached
    assert used == sorted(used)


def test_a_device_that_becomes_slower_gets_smaller_images_within_a_window():
    controller = ResolutionController(SIZES, target_ms=20.0)
    simulate(controller, 100.0, 400)
    assert controller.current == 3
    used = simulate(controller, 1000.0, 3 * WINDOW)
    assert used[WINDOW] < 3
    assert SIZES[used[-1]] * 1000 / 1e6 <= 20.0


def test_a_few_slow_images_change_nothing():
    controller = ResolutionController(SIZES, target_ms=20.0)
    simulate(controller, 100.0, 400)
    for _ in range(10):
        controller.observe(500.0)
        simulate(controller, 100.0, WINDOW)
    assert controller.current == 3


def test_a_size_that_had_to_be_left_is_tried_more_and_more_seldom():
    """The next size takes much longer than its pixels say: without hysteresis it would be tried again and again."""
    controller, used = ResolutionController(SIZES[:2], target_ms=20.0), []
    for _ in range(20_000):
        controller.observe(4.0 if controller.current == 0 else 30.0)
        used.append(controller.current)
    tries = int((np.diff(used) > 0).sum())
    assert 5 <= tries <= 15
    assert np.mean(used) < 0.05


def test_there_is_nothing_below_the_smallest_and_above_the_largest():
    controller = ResolutionController(SIZES[:1], target_ms=20.0)
    assert set(simulate(controller, 9000.0, 100)) == {0}
    assert set(simulate(controller, 1.0, 200)) == {0}


@pytest.mark.parametrize("sizes", [[], [4, 4], [9, 4]])
def test_sizes_have_to_ascend(sizes):
    with pytest.raises(InputError, match="ascend"):
        ResolutionController(sizes, target_ms=1.0)
    with pytest.raises(InputError, match="above 0"):
        ResolutionController([1], target_ms=0.0)


class Device:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_classifiers_of_several_sizes_answer_as_one(bundle, halves):
    device = Device()
    with AdaptiveClassifier(
        [bundle], target_ms=5.0, accuracies=[Metric(value=0.9, low=0.8, high=0.95)], threads=1, clock=device
    ) as model:
        for _ in range(3):
            device.now_s += 0.001
            assert model.predict([halves]).answers() == ["red"]
        assert model.current.size == (16, 16)
        assert model.table().rows == (("16x16", str(bundle), 0.9, 0.8, 0.95, 0, True),)


def test_two_classifiers_of_one_size_are_refused(bundle):
    with pytest.raises(InputError, match="ascend"):
        AdaptiveClassifier([bundle, bundle], target_ms=5.0, threads=1)


def larger(bundle: Path, folder: Path) -> Path:
    """The classifier of `bundle` for images of 32 x 32 pixels instead of 16 x 16."""
    known = open_bundle(bundle)
    path = write_bundle(
        folder / "large",
        BundleContents(
            labels=known.labels,
            preprocess=known.preprocess.model_copy(update={"size": (32, 32)}),
            decision=known.decision,
            model=known.manifest.model,
            weights_licence="none needed",
        ),
    )
    model = onnx.load(known.artifact("onnx") / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_value == 16:
                dimension.dim_value = 32
    [end] = [item for item in model.graph.initializer if item.name == "end"]
    end.CopyFrom(numpy_helper.from_array(np.array([16], np.int64), "end"))
    onnx.save(model, folder / "large.onnx")
    stamp(folder / "large.onnx", open_bundle(path))
    write_artifact(path, "onnx", folder / "large.onnx", None)
    return path


def test_sizes_change_with_the_time_that_answers_take(bundle, halves, tmp_path):
    large = larger(bundle, tmp_path)
    spent_ms, now_s = {(16, 16): 1.0, (32, 32): 4.0}, [0.0]
    with AdaptiveClassifier([large, bundle], target_ms=6.0, threads=1, clock=lambda: now_s[0]) as model:
        answer = model._models[0].__class__.predict

        def slow(own, images, **more):
            now_s[0] += spent_ms[own.preprocess.size] / 1000
            return answer(own, images, **more)

        for one in model._models:
            one.predict = slow.__get__(one)  # type: ignore[method-assign]
        assert [step.path for step in model.steps] == [bundle, large]
        sizes = []
        for number in range(200):
            if number == 120:
                spent_ms[32, 32] = 9.0
            assert model.predict([halves]).answers() == ["red"]
            sizes.append(model.current.size[0])
        assert sizes[30] == 16
        assert sizes[110] == 32
        assert sizes[-1] == 16
        assert [row[-1] for row in model.table().rows] == [True, False]
