"""What every deployment artifact promises, over the whole table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sortal.core.bundle import BundleContents, open_bundle, write_bundle
from sortal.core.decision import DecisionSpec, UnknownSpec
from sortal.core.errors import BundleError
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.export.artifacts import ARTIFACTS
from sortal.export.gate import EPSILON, check_artifact
from sortal.export.parity import is_equal
from sortal.export.publish import attach_made, stamp, write_artifact
from sortal.export.sides import file_side
from sortal.runtime.classifier import open_classifier
from sortal.runtime.engines.opening import is_installed
from sortal.runtime.sources import items_of

SPEC = PreprocessSpec(size=(24, 20), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
DECISION = DecisionSpec(
    temperature=1.7,
    bias=(0.1, -0.2, 0.0, 0.3),
    threshold=0.4,
    unknown=UnknownSpec(method="energy", threshold=0.0),
)


def network() -> onnx.ModelProto:
    """A convolution, a mean, a linear layer, and an unknown score computed from the logits."""
    make, info = helper.make_node, helper.make_tensor_value_info
    random = np.random.default_rng(2)
    stored = {
        "kernel": random.normal(0, 0.5, (6, 3, 3, 3)).astype(np.float32),
        "space": np.asarray([2, 3], np.int64),
        "classes": np.asarray([1], np.int64),
        "head.weight": random.normal(0, 4, (4, 6)).astype(np.float32),
        "head.bias": random.normal(0, 1, 4).astype(np.float32),
    }
    nodes = [
        make("Conv", ["image", "kernel"], ["convolved"], name="conv", strides=[2, 2]),
        make("Relu", ["convolved"], ["feature_map"], name="relu"),
        make("ReduceMean", ["feature_map", "space"], ["embedding"], name="pool", keepdims=0),
        make("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
        make("ReduceLogSumExp", ["logits", "classes"], ["unknown.energy"], name="unknown.0", keepdims=0),
        make("Neg", ["unknown.energy"], ["unknown_score"], name="unknown.output"),
    ]
    outputs = [
        ("logits", ["batch", 4]),
        ("embedding", ["batch", 6]),
        ("feature_map", ["batch", 6, 11, 9]),
        ("unknown_score", ["batch"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [info("image", TensorProto.FLOAT, ["batch", 3, 24, 20])],
        [info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    colors = random.integers(20, 236, (40, 1, 1, 3))
    return list(np.clip(colors + random.normal(0, 40, (40, 50, 44, 3)), 0, 255).astype(np.uint8))


CALIBRATED = [name for name in ARTIFACTS.table if ARTIFACTS.get(name).DETAILS.get("calibrated")]
"""What takes ranges from images answers a little otherwise on purpose, and has tests of its own."""
ELSEWHERE = [name for name in ARTIFACTS.table if ARTIFACTS.get(name).DETAILS["engine"] is None]
"""What no engine opens on this system is read back by its own check, and has tests of its own."""


@pytest.fixture(params=[name for name in ARTIFACTS.table if name not in (*CALIBRATED, *ELSEWHERE)])
def name(request) -> str:
    engine = ARTIFACTS.get(str(request.param)).DETAILS["engine"]
    if not is_installed(engine):
        pytest.skip(f"{engine} is not installed")
    return str(request.param)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    contents = BundleContents(
        labels=LabelSet(names=("bolt", "nut", "washer", "gear")),
        preprocess=SPEC,
        decision=DECISION,
        model=ModelSpec(architecture="small", classes=4, embedding=6, parameters=0),
        weights_licence="Apache-2.0",
    )
    return write_bundle(tmp_path / "bundle", contents)


@pytest.fixture
def graph(bundle: Path, tmp_path: Path) -> Path:
    """The exported, stamped file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(network().SerializeToString())
    stamp(path, open_bundle(bundle))
    return path


def made(name: str, graph: Path, folder: Path) -> Path:
    """The artifact's model file."""
    folder.mkdir()
    member = ARTIFACTS.get(name)
    member.convert(graph, folder)
    return folder / member.DETAILS["model"]


def test_details_say_what_a_person_needs(name):
    details = ARTIFACTS.get(name).DETAILS
    assert {"format", "precision", "model", "engine"} <= set(details)
    assert details["precision"] in EPSILON or details["epsilon"] > 0


@pytest.mark.parametrize("calibrated", CALIBRATED)
def test_what_takes_ranges_from_images_says_so(calibrated):
    member = ARTIFACTS.get(calibrated)
    assert {"format", "precision", "model", "engine", "epsilon"} <= set(member.DETAILS)
    assert callable(member.calibrated)
    assert not hasattr(member, "convert")


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_what_cannot_be_opened_here_says_for_whom_it_is_and_what_stands_in(elsewhere):
    member = ARTIFACTS.get(elsewhere)
    assert {"format", "precision", "model", "engine", "for"} <= set(member.DETAILS)
    assert member.DETAILS["precision"] in EPSILON or member.DETAILS["epsilon"] > 0
    assert callable(member.convert)
    assert callable(member.stand_in)


def test_it_decides_as_the_original(name, graph, images, tmp_path):
    details = ARTIFACTS.get(name).DETAILS
    artifact = file_side(made(name, graph, tmp_path / "out"), engine=details["engine"], threads=1)
    report = check_artifact(
        file_side(graph, threads=1),
        artifact,
        list(items_of(images)),
        decision=DECISION,
        precision=details["precision"],
        epsilon=details.get("epsilon"),
    )
    assert is_equal(report), report.findings
    assert report.metrics["images"].value == 40
    assert report.metrics["unknown_flips"].value == 0
    if str(details.get("input", "")).startswith("uint8"):
        assert report.metrics["decision_flips"].value == 0


def test_attached_it_answers_wherever_a_run_does(name, bundle, graph, images, tmp_path):
    made(name, graph, tmp_path / "out")
    details = ARTIFACTS.get(name).DETAILS
    side = file_side(tmp_path / "out" / details["model"], engine=details["engine"], threads=1)
    parity = check_artifact(
        file_side(graph, threads=1), side, list(items_of(images)), decision=DECISION, precision=details["precision"]
    )
    folder = attach_made(bundle, name, tmp_path / "out", parity)
    manifest = open_bundle(bundle).attachment(f"artifacts/{name}").manifest
    assert manifest.details["parity"]["flips"] == 0
    assert manifest.details["parity"]["images"] == 40
    assert sorted(manifest.details["input"]["shape"][1:], key=str) in ([20, 24, 3], [3, "columns", "rows"])
    assert json.loads((folder / "parity.json").read_text())["kind"] == "parity"
    place = folder if (folder / details["model"]).parent == folder else folder / details["model"]
    with open_classifier(place, threads=1) as model, open_classifier(graph, threads=1) as original:
        assert model.bundle_id == open_bundle(bundle).id
        assert model.labels.names == ("bolt", "nut", "washer", "gear")
        answers, expected = model.predict(images), original.predict(images)
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=2e-2)
    np.testing.assert_array_equal(answers.index, expected.index)
    np.testing.assert_array_equal(answers.abstained, expected.abstained)


def test_it_is_made_again_for_another_decision(name, bundle, graph):
    """As `sortal calibrate` does, whose new bundle takes over the artifacts of the old one."""
    folder = write_artifact(bundle, name, graph, None)
    assert open_bundle(bundle).attachment(f"artifacts/{name}").manifest.details["parity"] is None
    assert (folder / ARTIFACTS.get(name).DETAILS["model"]).is_file()


def test_damaged_files_are_refused(name, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError):
        ARTIFACTS.get(name).convert(tmp_path / "model.onnx", tmp_path / "out")
