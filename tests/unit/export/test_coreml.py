"""Core ML packages are read back, and wrong ones are refused with the part that is wrong. Nothing here predicts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from smallgraph import LABELS, SPEC, small_graph
from sortal.core.decision import DecisionSpec
from sortal.core.errors import BundleError
from sortal.core.preprocess import PreprocessSpec
from sortal.export.artifacts import ARTIFACTS
from sortal.export.coreml.check import check_package, write_stand_in
from sortal.export.graph import set_metadata
from sortal.runtime.metadata import ArtifactInfo, to_metadata

coremltools = pytest.importorskip("coremltools")

PREPROCESS = SPEC.model_copy(update={"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)})
DECISION = DecisionSpec(temperature=1.7, bias=(0.1, -0.2))


def stamped(path: Path, preprocess: PreprocessSpec = PREPROCESS) -> Path:
    """The exported file of a small network."""
    info = ArtifactInfo(
        labels=LABELS, preprocess=preprocess, decision=DECISION, bundle_id="b" * 64, licence="Apache-2.0"
    )
    model = small_graph()
    set_metadata(model, to_metadata(info))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stamped(tmp_path_factory.mktemp("coreml") / "model.onnx")


@pytest.fixture(scope="module")
def made(graph: Path) -> dict[str, Path]:
    """The packages of both artifacts."""
    found = {}
    for name in ("coreml", "coreml-int8"):
        out = graph.parent / name
        out.mkdir()
        ARTIFACTS.get(name).convert(graph, out)
        found[name] = out / ARTIFACTS.get(name).DETAILS["model"]
    return found


def altered(package: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a package whose specification was changed."""
    copy = folder / "model.mlpackage"
    shutil.copytree(package, copy)
    from coremltools.proto import Model_pb2

    file = next(copy.rglob("*.mlmodel"))
    spec = Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    change(spec)
    file.write_bytes(spec.SerializeToString())
    return copy


def operations(spec: Any) -> list[Any]:
    [block] = spec.mlProgram.functions["main"].block_specializations.values()
    return list(block.operations)


@pytest.mark.parametrize("name", ["coreml", "coreml-int8"])
def test_what_it_holds_is_said_beside_it(name, made):
    said = json.loads((made[name].parent / "check.json").read_text())
    assert said["input"] == {"type": "image", "colors": "RGB", "height": 16, "width": 16}
    np.testing.assert_allclose(said["normalization"]["offset"], [-2, -2, -1], rtol=1e-3)
    np.testing.assert_allclose(said["normalization"]["scale"], 1 / (255 * np.array([0.25, 0.2, 0.3])), rtol=1e-3)
    assert said["labels"] == ["blue", "red"]
    assert said["outputs"] == ["label", "probabilities", "logits", "embedding", "feature_map"]
    assert said["probabilities"]["temperature"] == 1.7
    assert (said["weights"]["layers"], said["weights"]["not_compared"]) == (3, [])
    assert said["weights"]["of_8_bits"] == (1 if name == "coreml-int8" else 0)
    assert said["compute_units"] == "ALL"
    assert said["off_the_neural_engine"] == "not measured"
    assert "not run here" in said["run"]


def test_the_file_itself_names_classes_and_licence(made):
    spec = coremltools.utils.load_spec(str(made["coreml"]))
    held = dict(spec.description.metadata.userDefined)
    assert {"sortal.labels", "sortal.preprocess", "sortal.decision", "sortal.licence"} <= set(held)
    assert held["sortal.bundle_id"] == "b" * 64
    assert held["sortal.compute_units"] == "ALL"
    assert spec.description.predictedFeatureName == "label"
    assert spec.description.predictedProbabilitiesName == "probabilities"


@pytest.mark.parametrize(("name", "near"), [("coreml", 5e-3), ("coreml-int8", 5e-2)])
def test_its_weights_answer_in_the_graph(name, near, graph, made, tmp_path):
    write_stand_in(graph, made[name], tmp_path / "stand-in.onnx")
    image = np.random.default_rng(5).normal(size=(4, 3, 16, 16)).astype(np.float32)
    expected, found = (
        onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(
            ["logits"], {"image": image}
        )[0]
        for path in (graph, tmp_path / "stand-in.onnx")
    )
    assert 0 < np.abs(found - expected).max() < near * np.abs(expected).max()


def test_shuffled_classes_are_refused(graph, made, tmp_path):
    def change(spec: Any) -> None:
        for operation in operations(spec):
            if operation.type == "classify":
                [named] = operation.inputs["classes"].arguments
                blue, red = named.value.immediateValue.list.values
                blue.immediateValue.tensor.strings.values[0] = "red"
                red.immediateValue.tensor.strings.values[0] = "blue"

    with pytest.raises(BundleError, match="classes are in another order"):
        check_package(graph, altered(made["coreml"], tmp_path, change))


def test_channels_in_another_order_are_refused(graph, made, tmp_path):
    def change(spec: Any) -> None:
        image = spec.description.input[0].type.imageType
        image.colorSpace = image.BGR

    with pytest.raises(BundleError, match="channels are in another order"):
        check_package(graph, altered(made["coreml"], tmp_path, change))


def test_mean_and_deviation_swapped_are_refused(graph, made, tmp_path):
    swapped = PREPROCESS.model_copy(update={"mean": PREPROCESS.std, "std": PREPROCESS.mean})
    other = stamped(tmp_path / "other.onnx", swapped)
    with pytest.raises(BundleError, match="normalizes pixels in another way"):
        check_package(other, made["coreml"])


def test_a_missing_output_name_is_refused(graph, made, tmp_path):
    def change(spec: Any) -> None:
        spec.description.output[2].name = "scores"

    with pytest.raises(BundleError, match="outputs have other names"):
        check_package(graph, altered(made["coreml"], tmp_path, change))


def test_metadata_of_another_bundle_are_refused(graph, made, tmp_path):
    def change(spec: Any) -> None:
        spec.description.metadata.userDefined["sortal.bundle_id"] = "c" * 64

    with pytest.raises(BundleError, match=r"metadata differ in sortal\.bundle_id"):
        check_package(graph, altered(made["coreml"], tmp_path, change))


def test_8_bits_are_refused_where_they_were_not_asked_for(graph, made):
    with pytest.raises(BundleError, match="second has 8 bits"):
        check_package(graph, made["coreml-int8"])


def test_8_bit_weights_off_by_more_than_a_step_are_refused(graph, made, tmp_path):
    def change(spec: Any) -> None:
        [integers] = [one for one in operations(spec) if one.type == "constexpr_affine_dequantize"]
        place["offset"] = integers.attributes["quantized_data"].blobFileValue.offset

    place: dict[str, int] = {}
    package = altered(made["coreml-int8"], tmp_path, change)
    file = next(package.rglob("weight.bin"))
    data = bytearray(file.read_bytes())
    start = int.from_bytes(data[place["offset"] + 16 : place["offset"] + 24], "little")
    levels = np.frombuffer(data, np.int8, 16 * 16 * 9, start).copy()
    levels[np.argmin(np.abs(levels))] += 2
    data[start : start + levels.size] = levels.tobytes()
    file.write_bytes(data)
    with pytest.raises(BundleError, match="second is off by"):
        check_package(graph, package, eight_bits=True)


def test_16_bit_images_are_refused(tmp_path):
    deep = stamped(tmp_path / "deep.onnx", PREPROCESS.model_copy(update={"depth": 16}))
    with pytest.raises(BundleError, match="8 bits"):
        ARTIFACTS.get("coreml").convert(deep, tmp_path)
