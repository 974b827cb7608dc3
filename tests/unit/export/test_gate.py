"""The gate lets right artifacts pass, refuses wrong ones, and names the stage where they part from the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from sortal.core.decision import DecisionSpec
from sortal.core.errors import InputError
from sortal.core.labels import LabelSet
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.core.report import Report
from sortal.export.fused import fuse
from sortal.export.gate import check_artifact
from sortal.export.graph import save_model, set_metadata
from sortal.export.half import to_half
from sortal.export.parity import Side, is_equal
from sortal.export.sides import file_side
from sortal.runtime.metadata import from_metadata, to_metadata
from sortal.runtime.sources import Item, items_of

Change = Callable[[onnx.ModelProto], object]


def photo(random: np.random.Generator) -> Pixels:
    """Colored noise of 60 x 52 with detail down to a pixel, so that every way of resizing gives another picture."""
    color = random.integers(20, 236, 3)
    return np.clip(color + random.normal(0, 60, (60, 52, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images() -> list[Item]:
    random = np.random.default_rng(11)
    return list(items_of([photo(random) for _ in range(40)]))


@pytest.fixture
def original(exported: Path) -> Side:
    return file_side(exported, threads=1)


@pytest.fixture
def changed(exported: Path, tmp_path: Path) -> Callable[[Change], Side]:
    """The exported file after a change, opened as an artifact."""

    def make(change: Change) -> Side:
        model = onnx.load_model(exported)
        model = change(model) or model
        save_model(model, tmp_path / "model.onnx")
        return file_side(tmp_path / "model.onnx", threads=1)

    return make


def info_of(model: onnx.ModelProto):
    return from_metadata({item.key: item.value for item in model.metadata_props}, where="model")


def saying(**fields: object) -> Change:
    """The file's metadata with other preprocessing."""

    def change(model: onnx.ModelProto) -> None:
        info = info_of(model)
        spec = info.preprocess.model_copy(update=fields)
        set_metadata(model, to_metadata(replace(info, preprocess=spec)))

    return change


def gate(original: Side, artifact: Side, images: list[Item], **how: object) -> Report:
    return check_artifact(original, artifact, images, decision=DecisionSpec(), **how)


def refused_at(report: Report) -> str:
    """The stage that the first finding names; the report has to be a refusal."""
    assert not is_equal(report)
    stage = str(report.body["stage"])
    assert report.findings[0].code == f"diverges_at_{stage}"
    assert f"the first stage that differs is {stage}" in report.findings[0].message
    return stage


def test_a_right_artifact_passes(original, images):
    report = gate(original, original, images)
    assert is_equal(report)
    assert report.body["stage"] is None
    assert report.metrics["images"].value == 40
    assert report.metrics["flips"].value == report.metrics["max_probability_difference"].value == 0


def swapped_inside(model: onnx.ModelProto) -> None:
    """A fused graph whose mean and deviation are in the order of BGR, though its metadata are right."""
    right = info_of(model)
    saying(mean=right.preprocess.mean[::-1], std=right.preprocess.std[::-1])(model)
    fuse(model)
    set_metadata(model, to_metadata(right))


def reversed_weights(model: onnx.ModelProto) -> None:
    """Trained on BGR: the first convolution has its input channels the other way round."""
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[1]
    for tensor in model.graph.initializer:
        if tensor.name == first:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), first))


def other_weights(model: onnx.ModelProto) -> None:
    random = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4 and values.dtype == np.float32:
            tensor.CopyFrom(
                numpy_helper.from_array(random.permutation(values.ravel()).reshape(values.shape), tensor.name)
            )


def shuffled_labels(model: onnx.ModelProto) -> None:
    info = info_of(model)
    set_metadata(model, to_metadata(replace(info, labels=LabelSet(names=info.labels.names[::-1]))))


@pytest.mark.parametrize(
    ("change", "stage", "said"),
    [
        (saying(mean=(0.3, 0.4, 0.5)), "normalize", "mean is (0.3, 0.4, 0.5), not (0.5, 0.4, 0.3)"),
        (swapped_inside, "normalize", "normalized input differs by up to"),
        (reversed_weights, "decode", "BGR"),
        (saying(interpolation="bilinear"), "resize", "interpolation is bilinear, not bicubic"),
        (saying(resize="stretch"), "resize", "resize is stretch, not crop"),
        (shuffled_labels, "labels", "not the same in the same order"),
        (other_weights, "graph", "with the same input, logits differ"),
    ],
)
def test_wrong_files_are_refused_at_the_right_stage(change, stage, said, original, changed, images):
    report = gate(original, changed(change), images)
    assert refused_at(report) == stage
    assert said in report.findings[0].message


def without_antialias(spec: PreprocessSpec) -> Callable[[Pixels], Pixels]:
    """As many C++ programs resize: four neighboring pixels, however far the image is reduced."""

    def prepare(image: Pixels) -> Pixels:
        height, width = (int(size / spec.crop) for size in spec.size)
        given = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(given, (height, width), mode="bicubic", antialias=False)[0]
        top, left = (height - spec.size[0]) // 2, (width - spec.size[1]) // 2
        cut = small[:, top : top + spec.size[0], left : left + spec.size[1]].permute(1, 2, 0)
        return cut.round().clamp(0, 255).numpy().astype(np.uint8)

    return prepare


def test_resizing_without_antialias_is_refused_with_the_images_that_show_it(original, images, spec):
    report = gate(original, replace(original, prepare=without_antialias(spec)), images)
    assert refused_at(report) == "resize"
    assert "seen in 40 of 40 images: input[0], input[1], input[2] …" in report.findings[0].message
    assert len(report.findings[0].rows) == 40


def test_pixels_in_another_order_are_refused_at_decoding(original, images):
    def decode(raw: Pixels) -> Pixels:
        return np.ascontiguousarray(raw[..., ::-1])

    report = gate(original, replace(original, decode=decode), images)
    assert refused_at(report) == "decode"
    assert "reverse order (BGR)" in report.findings[0].message


def test_outputs_in_another_order_are_found_by_their_values(original, images):
    order = [1, 0, 2, 3]
    report = gate(original, replace(original, run=lambda batch: original.run(batch)[:, order]), images)
    assert refused_at(report) == "labels"
    assert "bolt answers as nut" in report.findings[0].message


def noisy(side: Side, share: float) -> Side:
    """Logits with noise, the same for the same image, of a share of their spread."""

    def run(batch):
        logits = side.run(batch)
        noise = np.sin(1e4 * logits[:, ::-1])
        return (logits + share * np.sqrt(2) * logits.std() * noise).astype(np.float32)

    return replace(side, run=run)


@pytest.mark.parametrize(
    ("precision", "share", "stage"),
    [("float16", 0.2, "precision"), ("float32", 0.2, "graph"), ("float16", 3.0, "graph")],
)
def test_coarse_numbers_are_told_from_another_function(precision, share, stage, original, images):
    assert refused_at(gate(original, noisy(original, share), images, precision=precision)) == stage


def test_a_flip_within_epsilon_is_counted_and_allowed(original, images):
    """The two best classes change places, a ten-thousandth apart."""
    near = np.asarray([[1.0, 1.0001, 0.0, 0.0]], np.float32)
    one = replace(original, run=lambda batch: np.repeat(near, len(batch), axis=0))
    other = replace(original, run=lambda batch: np.repeat(near[:, [1, 0, 2, 3]], len(batch), axis=0))
    report = gate(one, other, images)
    assert is_equal(report)
    assert report.metrics["flips"].value == 40
    assert [finding.code for finding in report.findings] == ["ties_differ"]
    assert not is_equal(gate(one, other, images, epsilon=1e-6))


def test_half_precision_needs_its_own_epsilon(original, changed, images):
    half = changed(to_half)
    report = gate(original, half, images, precision="float16")
    assert is_equal(report)
    assert report.body["epsilon"] == 0.02
    assert 0 < report.metrics["max_probability_difference"].value < 0.02


def entered(side: Side, images: list[Item]) -> list[bytes]:
    """What the network is given of each image."""
    prepared = [prepare(side.preprocess, item.open()) for item in images]
    return [side.enter(pixels[None])[0].tobytes() for pixels in prepared]


@pytest.mark.parametrize(
    ("changed_images", "lead", "passes", "said"),
    [
        (2, 0.2, True, ""),
        (3, 0.2, False, "3 of 40 images are decided otherwise, over 5%"),
        (1, 0.8, False, "1 of 40 decisions differ by more than a tie"),
    ],
)
def test_integers_may_change_few_decisions_that_were_close(changed_images, lead, passes, said, original, images):
    """Two classes apart by `lead` in probability: some images are answered with the other one."""
    chances = np.array([[(1 + lead) / 2, (1 - lead) / 2, 1e-9, 1e-9]])
    order = entered(original, images)
    one = replace(original, run=lambda batch: np.log(np.repeat(chances, len(batch), axis=0)).astype(np.float32))

    def run(batch):
        logits = one.run(batch)
        moved = np.isin([image.tobytes() for image in batch], order[:changed_images])
        logits[moved] = logits[moved][:, [1, 0, 2, 3]]
        return logits

    report = gate(one, replace(one, run=run), images, precision="int8", epsilon=0.3)
    assert is_equal(report) == passes
    assert report.metrics["changed"].value == changed_images
    if not passes:
        assert said in report.findings[0].message
        assert "sortal compress" in str(report.findings[0].hint)


def test_integers_in_place_of_another_function_are_refused(original, changed, images):
    assert refused_at(gate(original, changed(other_weights), images, precision="int8", epsilon=0.3)) in (
        "graph",
        "precision",
    )


def test_a_fused_graph_gives_the_same_bits(original, changed, images):
    report = gate(original, changed(fuse), images)
    assert is_equal(report)
    assert report.metrics["max_logit_difference"].value == 0


def test_channels_in_another_order_are_found_though_every_image_is_grey(original, changed):
    random = np.random.default_rng(4)
    grey = items_of([np.repeat(random.integers(0, 256, (60, 52, 1), dtype=np.uint8), 3, axis=2) for _ in range(12)])
    report = gate(original, changed(reversed_weights), list(grey))
    assert report.metrics["flips"].value == 0
    assert refused_at(report) == "decode"
    assert "BGR" in report.findings[0].message


def test_images_that_cannot_be_read_are_left_out(original, images):
    broken = list(items_of([b"no image", b""]))
    assert gate(original, original, [*broken, *images]).metrics["images"].value == 40
    with pytest.raises(InputError, match="can be read"):
        gate(original, original, broken)
    with pytest.raises(InputError, match="no epsilon"):
        gate(original, original, images, precision="float4")
