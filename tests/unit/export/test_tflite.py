"""TFLite files: what they hold, what they say about themselves, what int8 does, and which layer is to blame."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from smallgraph import LABELS, SPEC, small_graph, small_images
from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import normalize
from sortal.export import publish
from sortal.export.artifacts import tflite, tflite_int8, tflite_uint8
from sortal.export.gate import check_artifact
from sortal.export.graph import set_metadata
from sortal.export.sides import file_side
from sortal.export.tflite.stamp import LABELS as LABELS_FILE
from sortal.export.tflite.stamp import stamped
from sortal.runtime.engines import litert, onnxruntime
from sortal.runtime.engines.delegates import operators
from sortal.runtime.metadata import ArtifactInfo, from_metadata, to_metadata
from sortal.runtime.network_input import FLOAT32_NHWC, KEY, network_input
from sortal.runtime.sources import items_of

MEMBERS = (("tflite", tflite), ("tflite-int8", tflite_int8), ("tflite-uint8", tflite_uint8))


def exported(folder: Path, *, bundle: str = "b") -> Path:
    model = small_graph()
    info = ArtifactInfo(labels=LABELS, preprocess=SPEC, decision=DecisionSpec(), bundle_id=bundle, licence="MIT")
    set_metadata(model, to_metadata(info))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def floats(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("floats")
    tflite.convert(exported(folder), folder)
    return folder / "model.tflite"


@pytest.fixture(scope="module")
def integers(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("integers")
    tflite_int8.calibrated(exported(folder), folder, small_images(24, seed=1).pixels)
    return folder / "model.tflite"


def entered(engine: litert.LiteRtEngine, pixels: np.ndarray) -> np.ndarray:
    return network_input(SPEC, pixels, engine.metadata)


def test_every_output_is_that_of_the_graph(floats, tmp_path):
    pixels = small_images(5).pixels
    found = litert.open(floats, threads=1)
    expected = onnxruntime.open(exported(tmp_path), threads=1).run(normalize(SPEC, pixels))
    outputs = found.run(entered(found, pixels))
    for name in ("logits", "embedding", "feature_map"):
        np.testing.assert_allclose(getattr(outputs, name), getattr(expected, name), atol=1e-4, err_msg=name)
    assert "plain kernels" not in found.ran_on


def test_a_transformer_answers_as_its_graph_does(small_vit, tmp_path):
    _, file = small_vit
    tflite.convert(file, tmp_path)
    batch = np.random.default_rng(0).normal(size=(2, 3, 56, 56)).astype(np.float32)
    found = litert.open(tmp_path / "model.tflite", threads=1).run(batch.transpose(0, 2, 3, 1))
    expected = onnxruntime.open(file, threads=1).run(batch)
    for name in ("logits", "embedding", "feature_map"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-4, err_msg=name)


def test_the_file_says_what_it_takes_and_names_its_classes_for_android(floats):
    said = litert.open(floats, threads=1).metadata
    assert said[KEY] == FLOAT32_NHWC
    assert said[litert.FEATURE_MAP] == "NHWC"
    assert from_metadata(said, where="file").labels == LABELS
    with zipfile.ZipFile(floats) as archive:
        assert archive.read(LABELS_FILE).decode() == "blue\nred\n"
        assert archive.getinfo(LABELS_FILE).compress_type == zipfile.ZIP_STORED


def test_stamping_again_replaces_and_is_the_same_every_time(floats):
    data = floats.read_bytes()
    once = stamped(data, {"sortal.bundle_id": "other"}, ["one", "two"])
    assert once == stamped(data, {"sortal.bundle_id": "other"}, ["one", "two"])
    with zipfile.ZipFile(io.BytesIO(once)) as archive:
        assert archive.namelist() == [LABELS_FILE]
        assert archive.read(LABELS_FILE).decode() == "one\ntwo\n"


def test_operators_are_listed_with_what_xnnpack_took_and_no_more_is_claimed(floats):
    said = tflite.details(floats)
    kinds = {entry["kind"]: entry for entry in said["operators"]}
    assert kinds["CONV_2D"]["count"] == kinds["CONV_2D"]["xnnpack"] == 2
    assert kinds["CONV_2D"]["types"] == ["float32"]
    assert said["delegates"]["xnnpack"]["taken"] == said["delegates"]["xnnpack"]["operators"]
    assert said["delegates"]["npu"]["taken"] is None
    assert tflite.details(floats.parent / "model.onnx") == {}


def test_int8_computes_in_integers_up_to_the_feature_map(integers, floats):
    found = operators(litert.open_interpreter(integers))
    convolutions = [one for one in found if one.kind == "CONV_2D"]
    assert len(convolutions) == 2
    assert {one.types for one in convolutions} == {("int32", "int8")}
    assert {one.types for one in found if one.kind == "ADD"} == {("int8",)}
    assert {one.types for one in found if one.kind == "FULLY_CONNECTED"} == {("float32",)}


def test_int8_takes_levels_of_all_that_pixels_can_be(integers):
    taken = litert.open(integers, threads=1)._runner.get_input_details()["image"]
    scale, zero = taken["quantization"]
    ends = (0.0 - 0.5) / 0.25, (1.0 - 0.5) / 0.25
    assert taken["dtype"] == np.int8
    assert (-128 - zero) * scale <= ends[0] + scale
    assert (127 - zero) * scale >= ends[1] - scale
    assert scale == pytest.approx((ends[1] - ends[0]) / 255, rel=0.01)


def test_int8_has_a_scale_for_each_channel(integers):
    details = litert.open_interpreter(integers).get_tensor_details()
    kernels = [one for one in details if len(one["shape"]) == 4 and len(one["quantization_parameters"]["scales"]) > 1]
    assert {len(one["quantization_parameters"]["scales"]) for one in kernels} == {16}
    assert len(kernels) == 2


def test_int8_answers_nearly_as_float32(integers, floats):
    images = small_images(40, seed=5)
    one, other = litert.open(floats, threads=1), litert.open(integers, threads=1)
    expected = one.run(entered(one, images.pixels)).logits
    found = other.run(entered(other, images.pixels)).logits
    np.testing.assert_array_equal(found.argmax(1), images.labels)
    assert np.abs(found - expected).max() < 0.1 * expected.std()
    assert other.run(entered(other, images.pixels[:1])).feature_map.shape == (1, 16, 16, 16)


def test_another_decision_keeps_the_integers(integers, tmp_path):
    other = exported(tmp_path / "graph", bundle="another")
    (tmp_path / "out").mkdir()
    tflite_int8.restamped(integers.parent, other, tmp_path / "out")
    again, before = litert.open(tmp_path / "out" / "model.tflite", threads=1), litert.open(integers, threads=1)
    assert (before.metadata["sortal.bundle_id"], again.metadata["sortal.bundle_id"]) == ("b", "another")
    pixels = small_images(3).pixels
    np.testing.assert_array_equal(again.run(entered(again, pixels)).logits, before.run(entered(before, pixels)).logits)


def test_a_layer_that_litert_cannot_take_is_named(tmp_path):
    path = exported(tmp_path)
    model = onnx.load_model(path)
    nodes = list(model.graph.node)
    place = next(number for number, node in enumerate(nodes) if node.name == "pool")
    nodes[place].input[0] = "highest"
    nodes.insert(place, helper.make_node("TopK", ["feature_map", "count"], ["highest", ""], name="highest", axis=2))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(helper.make_tensor("count", TensorProto.INT64, [1], [3]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"LiteRT cannot take the layer highest \(TopK\)") as caught:
        tflite.convert(path, tmp_path)
    assert "openvino" in str(caught.value.hint)
    assert not (tmp_path / "model.tflite").exists()


def test_only_what_takes_pixels_is_said_to_decide(tmp_path):
    model = ModelSpec(architecture="small", classes=2, embedding=16, parameters=0)
    contents = BundleContents(
        labels=LABELS, preprocess=SPEC, decision=DecisionSpec(), model=model, weights_licence="MIT"
    )
    bundle = open_bundle(write_bundle(tmp_path / "bundle", contents))
    decides = {name: "probabilities" in publish._interface(bundle, one.DETAILS)["outputs"] for name, one in MEMBERS}
    assert decides == {"tflite": False, "tflite-int8": False, "tflite-uint8": True}


def test_a_wrong_file_with_channels_last_is_told_by_its_stage(floats, tmp_path):
    pixels = small_images(8).pixels
    turned = file_side(floats, engine="litert", threads=1)
    backwards = replace(turned, run=lambda batch: turned.run(np.ascontiguousarray(batch[..., ::-1])), outputs=None)
    report = check_artifact(
        file_side(exported(tmp_path), threads=1), backwards, list(items_of(list(pixels))), decision=DecisionSpec()
    )
    assert report.findings[0].code == "diverges_at_decode"
