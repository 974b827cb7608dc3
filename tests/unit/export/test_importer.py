"""Classifiers from elsewhere, in the many shapes they come in, become bundles that answer as they did."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sortal.core.bundle import open_bundle
from sortal.core.errors import BundleError, InputError
from sortal.core.preprocess import normalize, prepare
from sortal.export import trial
from sortal.export.foreign import read_labels, read_preprocess
from sortal.export.importer import import_onnx
from sortal.runtime.classifier import open_classifier

PREPROCESS = "size: [8, 10]\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\nresize: stretch\n"


def build(
    *,
    batch: int | str = "N",
    layout: str = "NCHW",
    end: str = "logits",
    pool: str = "GlobalAveragePool",
    linear: str = "Gemm",
    opset: int = 17,
    fix_reshape: bool = False,
) -> onnx.ModelProto:
    """A conv - pool - linear classifier over 3 classes, as other exporters write them."""
    random = np.random.default_rng(2)
    stored = {
        "conv": random.normal(size=(5, 3, 3, 3)).astype(np.float32),
        "weight": random.normal(size=(5, 3)).astype(np.float32) * 3,
        "bias": random.normal(size=3).astype(np.float32),
        "flat": np.asarray([batch if fix_reshape else 0, -1], np.int64),
    }
    make = helper.make_node
    turned = layout == "NHWC"
    nodes = [make("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])] if turned else [make("Identity", ["image"], ["x"])]
    nodes += [make("Conv", ["x", "conv"], ["c"], pads=[1, 1, 1, 1]), make("Relu", ["c"], ["map"])]
    if pool == "ReduceMean NHWC":
        nodes += [make("Transpose", ["map"], ["last"], perm=[0, 2, 3, 1])]
        nodes += [make("ReduceMean", ["last"], ["pooled"], axes=[1, 2], keepdims=0)]
    elif pool == "none":
        nodes += [make("ReduceMax", ["map"], ["pooled"], axes=[2, 3], keepdims=0)]
    else:
        nodes += [make("GlobalAveragePool", ["map"], ["pooled"])]
    nodes += [make("Reshape", ["pooled", "flat"], ["features"])]
    if linear == "Gemm":
        nodes += [make("Gemm", ["features", "weight", "bias"], ["scores"])]
    else:
        nodes += [make("MatMul", ["features", "weight"], ["product"]), make("Add", ["product", "bias"], ["scores"])]
    nodes += {
        "logits": [make("Identity", ["scores"], ["out"])],
        "softmax": [make("Softmax", ["scores"], ["out"], axis=1)],
        "exp": [
            make("Exp", ["scores"], ["e"]),
            make("ReduceL1", ["e"], ["s"], axes=[1]),
            make("Div", ["e", "s"], ["out"]),
        ],
        "sigmoid": [make("Sigmoid", ["scores"], ["out"])],
        "embedding": [make("Identity", ["scores"], ["out"]), make("Identity", ["features"], ["extra"])],
    }[end]
    shape = [batch, 8, 10, 3] if turned else [batch, 3, 8, 10]
    info = helper.make_tensor_value_info
    outputs = [info("out", TensorProto.FLOAT, [batch, 3])]
    outputs += [info("extra", TensorProto.FLOAT, [batch, 5])] if end == "embedding" else []
    graph = helper.make_graph(
        nodes,
        "foreign",
        [info("image", TensorProto.FLOAT, shape)],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


class Desk:
    """A folder with a model, names and preprocessing, to be imported."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.model, self.out = folder / "model.onnx", folder / "bundle"
        self.labels, self.preprocess = folder / "names.txt", folder / "p.yaml"
        self.labels.write_text("bolt\nnut\nwasher\n")
        self.preprocess.write_text(PREPROCESS)

    def run(self, model: onnx.ModelProto | None = None, **arguments):
        if model is not None:
            onnx.save(model, self.model)
        return import_onnx(
            self.model, **({"labels": self.labels, "preprocess": self.preprocess, "out": self.out} | arguments)
        )


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def images() -> list[np.ndarray]:
    return list(np.random.default_rng(4).integers(0, 256, (5, 12, 14, 3), dtype=np.uint8))


def reference(desk: Desk, model: onnx.ModelProto, images: list[np.ndarray], *, nhwc: bool) -> np.ndarray:
    """Probabilities of the original file in ONNX Runtime, one image at a time."""
    spec = open_bundle(desk.out).preprocess
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = []
    for image in images:
        batch = normalize(spec, prepare(spec, image)[None])
        batch = np.ascontiguousarray(batch.transpose(0, 2, 3, 1)) if nhwc else batch
        rows.append(session.run(["out"], {"image": batch})[0][0])
    return np.stack(rows)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({}, []),
        ({"linear": "MatMul", "opset": 13}, []),
        ({"layout": "NHWC"}, []),
        ({"batch": 1}, ["batch_freed"]),
        ({"batch": 1, "fix_reshape": True}, ["batch_freed"]),
        ({"end": "softmax"}, ["softmax"]),
        ({"end": "exp"}, ["softmax"]),
        ({"end": "embedding"}, []),
        ({"pool": "ReduceMean NHWC"}, []),
        ({"pool": "none"}, ["no_feature_map"]),
    ],
    ids=str,
)
def test_an_imported_model_answers_as_before(options, codes, desk, images):
    model = build(**options)
    report = desk.run(model)
    assert [finding.code for finding in report.findings] == codes
    assert report.paths["bundle"] == str(desk.out)
    with open_classifier(desk.out, threads=1) as classifier:
        predictions, embeddings = classifier.predict_outputs(images)
    found = reference(desk, model, images, nhwc=options.get("layout") == "NHWC")
    expected = found if options.get("end") in ("softmax", "exp") else softmax(found)
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-5)
    assert embeddings.shape == (5, 5)
    assert predictions.labels.names == ("bolt", "nut", "washer")


def test_the_feature_map_is_that_before_the_pooling(desk, images):
    desk.run(build(pool="ReduceMean NHWC"))
    with open_classifier(desk.out, threads=1) as classifier:
        spec = classifier.preprocess
        outputs = classifier._engine.run(normalize(spec, np.stack([prepare(spec, image) for image in images])))
    assert outputs.feature_map.shape == (5, 5, 8, 10)
    np.testing.assert_allclose(outputs.feature_map.mean((2, 3)), outputs.embedding, atol=1e-5)


def test_a_batch_that_cannot_be_freed_is_kept_and_said(desk, images):
    model = build(batch=2, fix_reshape=True)
    model.graph.node.insert(2, helper.make_node("Add", ["c", "tied"], ["d"]))
    model.graph.node[3].input[0] = "d"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 5, 8, 10), np.float32), "tied"))
    report = desk.run(model)
    assert [finding.code for finding in report.findings] == ["batch_fixed"]
    for engine in ("onnxruntime", "openvino"):
        with open_classifier(desk.out, engine=engine, threads=1) as classifier:
            together = classifier.predict(images).probabilities
            alone = np.concatenate([classifier.predict([image]).probabilities for image in images])
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_bundle_says_where_it_comes_from(desk):
    desk.run(build())
    manifest = open_bundle(desk.out).manifest
    assert manifest.weights_licence == "unknown (imported)"
    with pytest.raises(InputError, match="already exists"):
        desk.run(build(), licence="MIT")
    assert open_bundle(desk.out).manifest == manifest
    assert manifest.model.source.startswith("model.onnx sha256:")
    assert (manifest.model.classes, manifest.model.embedding) == (3, 5)
    assert open_bundle(desk.out).weights_path is None


def test_a_sigmoid_at_the_end_is_said(desk):
    assert "sigmoid" in [finding.code for finding in desk.run(build(end="sigmoid")).findings]


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("input_size: [3, 8, 10]\ncrop_pct: 0.9\nmean: [0.5, 0.5, 0.5]\nstd: [0.2, 0.2, 0.2]", "crop", 0.9),
        ("crop_mode: squash\nmean: [0.5, 0.5, 0.5]\nstd: [0.2, 0.2, 0.2]", "resize", "stretch"),
        ("mean: [127.5, 127.5, 127.5]\nstd: [51, 51, 51]", "std", (0.2, 0.2, 0.2)),
        ("mean: [0, 0, 0]\nstd: [255, 255, 255]", "std", (1.0, 1.0, 1.0)),
        ("crop_size: [8, 10]\nresize_size: 16\nmean: [0.5, 0.5, 0.5]\nstd: [0.2, 0.2, 0.2]", "crop", 0.5),
    ],
)
def test_preprocessing_is_read_under_other_projects_keys(text, key, expected, desk):
    desk.preprocess.write_text(text)
    found = getattr(read_preprocess(desk.preprocess, channels=3, size=(8, 10)), key)
    assert found == (expected if isinstance(expected, str) else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean: [0.5, 0.5, 0.5]", "size, mean and std are needed"),
        (PREPROCESS.replace("resize", "resise"), "did you mean resize"),
        (PREPROCESS.replace("[8, 10]", "224"), "the model takes another size"),
        (PREPROCESS.replace("stretch", "bend"), "resize"),
        (PREPROCESS.replace("[0.5, 0.5, 0.5]", "half"), "expected numbers"),
        (PREPROCESS.replace("[8, 10]", "[8, 0]"), "above 0"),
        ("size: 8\nchannels: 1\nmean: 0.5\nstd: 0.2", "the model takes 3 channels"),
        ("[1, 2]", "expected keys and values"),
    ],
)
def test_wrong_preprocessing_is_one_clear_error(text, message, desk):
    desk.preprocess.write_text(text)
    with pytest.raises(InputError, match=message):
        desk.run(build())
    assert not desk.out.exists()


def test_without_preprocessing_the_error_says_what_is_needed(desk):
    with pytest.raises(InputError, match="8 x 10 pixels") as caught:
        desk.run(build(), preprocess=None)
    assert "mean" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [("bolt\nnut\n", "3 classes, the names are 2"), ("", "one a line"), ("bolt\n\nnut\n", "none empty")],
)
def test_names_that_do_not_fit_are_one_clear_error(text, message, desk):
    desk.labels.write_text(text)
    with pytest.raises(InputError, match=message):
        desk.run(build())
    assert not desk.out.exists()


def test_names_given_twice_are_told_apart(desk):
    desk.labels.write_text("crane\nbolt\ncrane\n")
    labels, findings = read_labels(desk.labels)
    assert [finding.code for finding in findings] == ["names_twice"]
    assert labels.names == ("crane", "bolt", "crane (2)")


def test_names_may_be_json(desk, tmp_path):
    file = tmp_path / "names.json"
    file.write_text('{"0": "bolt", "2": "washer", "1": "nut"}')
    assert read_labels(file)[0].names == ("bolt", "nut", "washer")


def external(location: str) -> onnx.ModelProto:
    model = build()
    tensor = next(item for item in model.graph.initializer if item.name == "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


@pytest.mark.parametrize("location", ["../../../../../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_external_data_is_refused_wherever_it_points(location, desk):
    desk.model.write_bytes(external(location).SerializeToString())
    (desk.folder / "weights.bin").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="tensors in other files"):
        desk.run()
    assert not desk.out.exists()


def test_external_data_hidden_in_a_branch_is_refused(desk):
    hidden = helper.make_graph(
        [],
        "branch",
        [],
        [helper.make_tensor_value_info("weight", TensorProto.FLOAT, [5, 3])],
        external("/etc/passwd").graph.initializer,
    )
    model = build()
    model.graph.node.append(helper.make_node("If", ["yes"], ["w"], then_branch=hidden, else_branch=hidden))
    desk.model.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="tensors in other files"):
        desk.run()


def garbage() -> dict[str, bytes]:
    whole = build().SerializeToString()
    random = np.random.default_rng(0)
    flipped = bytearray(whole)
    for position in random.integers(0, 200, 20):
        flipped[position] ^= 0xFF
    return {
        "empty": b"",
        "text": b"this is no model",
        "random": random.bytes(4096),
        "cut off": whole[: len(whole) // 2],
        "flipped": bytes(flipped),
        "no graph": onnx.ModelProto(ir_version=8).SerializeToString(),
        "endless varint": b"\xff" * 64,
    }


@pytest.mark.parametrize("kind", garbage())
def test_garbage_is_a_bundle_error(kind, desk):
    desk.model.write_bytes(garbage()[kind])
    with pytest.raises(BundleError):
        desk.run()
    assert not desk.out.exists()


def test_a_model_that_cannot_run_is_a_bundle_error(desk):
    model = build()
    next(item for item in model.graph.initializer if item.name == "weight").CopyFrom(
        numpy_helper.from_array(np.zeros((7, 3), np.float32), "weight")
    )
    with pytest.raises(BundleError, match="cannot be run"):
        desk.run(model)
    assert not desk.out.exists()


@pytest.mark.parametrize("change", ["two inputs", "rank 2", "uint8"])
def test_inputs_that_are_no_image_are_one_clear_error(change, desk):
    model = build()
    if change == "two inputs":
        model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    elif change == "rank 2":
        del model.graph.input[0].type.tensor_type.shape.dim[2:]
    else:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    desk.model.write_bytes(model.SerializeToString())
    with pytest.raises(InputError):
        desk.run()
    assert not desk.out.exists()


def test_a_model_that_is_missing_or_a_folder_is_a_bundle_error(desk):
    with pytest.raises(BundleError, match="No such file"):
        desk.run()
    desk.model.mkdir()
    with pytest.raises(BundleError, match="not an ONNX file"):
        desk.run()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a shell")
def test_a_model_that_crashes_the_engine_is_a_bundle_error(desk, monkeypatch):
    monkeypatch.setattr(trial.sys, "executable", str(desk.folder / "crash"))
    (desk.folder / "crash").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (desk.folder / "crash").chmod(0o755)
    with pytest.raises(BundleError, match="crashed the engine"):
        desk.run(build())
