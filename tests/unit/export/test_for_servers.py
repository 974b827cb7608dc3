"""What is written for programs that do not run here: their texts are parsed, their command lines taken apart."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from sortal.core.canonical import canonical
from sortal.core.preprocess import PreprocessSpec, prepare
from sortal.export.artifacts import tensorrt, triton
from sortal.export.graph import set_metadata
from sortal.export.half import to_half
from sortal.export.triton_config import configuration
from sortal.runtime.engines.onnxruntime import open as open_engine

OPTIONAL, REPEATED = 1, 3
STRING, INT32, INT64, BOOL, MESSAGE, ENUM = 9, 5, 3, 8, 11, 14

MESSAGES = {
    "Shape": [("shape", INT64, REPEATED, "")],
    "Tensor": [
        ("name", STRING, OPTIONAL, ""),
        ("data_type", ENUM, OPTIONAL, "DataType"),
        ("dims", INT64, REPEATED, ""),
        ("reshape", MESSAGE, OPTIONAL, "Shape"),
        ("label_filename", STRING, OPTIONAL, ""),
    ],
    "Batching": [("preferred_batch_size", INT32, REPEATED, ""), ("max_queue_delay_microseconds", INT64, OPTIONAL, "")],
    "Given": [
        ("data_type", ENUM, OPTIONAL, "DataType"),
        ("dims", INT64, REPEATED, ""),
        ("zero_data", BOOL, OPTIONAL, ""),
    ],
    "Entry": [("key", STRING, OPTIONAL, ""), ("value", MESSAGE, OPTIONAL, "Given")],
    "WarmUp": [
        ("name", STRING, OPTIONAL, ""),
        ("batch_size", INT32, OPTIONAL, ""),
        ("inputs", MESSAGE, REPEATED, "Entry"),
    ],
    "MapEntry": [("key", STRING, OPTIONAL, ""), ("value", STRING, OPTIONAL, "")],
    "Step": [
        ("model_name", STRING, OPTIONAL, ""),
        ("model_version", INT64, OPTIONAL, ""),
        ("input_map", MESSAGE, REPEATED, "MapEntry"),
        ("output_map", MESSAGE, REPEATED, "MapEntry"),
    ],
    "Ensembling": [("step", MESSAGE, REPEATED, "Step")],
    "ModelConfig": [
        ("name", STRING, OPTIONAL, ""),
        ("platform", STRING, OPTIONAL, ""),
        ("backend", STRING, OPTIONAL, ""),
        ("max_batch_size", INT32, OPTIONAL, ""),
        ("input", MESSAGE, REPEATED, "Tensor"),
        ("output", MESSAGE, REPEATED, "Tensor"),
        ("dynamic_batching", MESSAGE, OPTIONAL, "Batching"),
        ("model_warmup", MESSAGE, REPEATED, "WarmUp"),
        ("ensemble_scheduling", MESSAGE, OPTIONAL, "Ensembling"),
    ],
}
"""The part of Triton's model_config.proto that is written, by its names; the text form knows no numbers."""


def parsed(text: str):
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="inference", syntax="proto2")
    kinds = file.enum_type.add(name="DataType")
    for name, number in (("TYPE_BOOL", 1), ("TYPE_UINT8", 2), ("TYPE_INT64", 9), ("TYPE_FP32", 11)):
        kinds.value.add(name=name, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, label, of) in enumerate(fields, start=1):
            message.field.add(
                name=field, number=number, type=kind, label=label, type_name=f".inference.{of}" if of else None
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
    return text_format.Parse(text, config)


def at(models: Path, name: str):
    """The configuration of a model, which is called as its folder."""
    config = parsed((models / name / "config.pbtxt").read_text())
    assert config.name == name
    return config


def shapes(values) -> dict[str, list[int]]:
    return {one.name: [*one.dims] for one in values}


def fixed(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """With a batch of that size and no other."""
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = size
    return model


def test_a_triton_repository(exported: Path, tmp_path: Path, spec: PreprocessSpec):
    triton.convert(exported, tmp_path)
    folder = tmp_path / "models" / "classifier"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "config.pbtxt", "labels.txt", "1/model.onnx"
    }  # fmt: skip
    config = parsed((folder / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == (folder.name, "onnxruntime", 32)
    session = onnx.load_model(folder / "1" / "model.onnx").graph
    assert [(one.name, one.data_type, [*one.dims]) for one in config.input] == [("image", 2, [*spec.size, 3])]
    assert [one.name for one in config.output] == [one.name for one in session.output]
    outputs = {one.name: one for one in config.output}
    assert [*outputs["probabilities"].dims] == [*outputs["logits"].dims] == [4]
    assert {one.label_filename for one in config.output} == {"", "labels.txt"}
    assert outputs["probabilities"].label_filename == "labels.txt"
    assert (folder / "labels.txt").read_text().splitlines() == ["bolt", "nut", "washer", "gear"]
    assert [*config.dynamic_batching.preferred_batch_size] == [8, 16, 32]
    assert [one.batch_size for one in config.model_warmup] == [1, 32]
    warm = config.model_warmup[0].inputs[0]
    assert (warm.key, [*warm.value.dims], warm.value.zero_data) == ("image", [*spec.size, 3], True)


def test_a_score_of_one_number_has_its_shape_and_a_fixed_batch_is_not_batched(exported: Path):
    model = onnx.load_model(exported)
    model.graph.output.append(onnx.helper.make_tensor_value_info("unknown_score", onnx.TensorProto.FLOAT, ["batch"]))
    score = parsed(configuration(model, name="scored")).output[-1]
    assert ([*score.dims], score.HasField("reshape"), [*score.reshape.shape]) == ([1], True, [])
    config = parsed(configuration(fixed(model, 4), name="scored"))
    assert config.max_batch_size == 0
    assert [*config.input[0].dims] == [4, 3, 24, 20]
    assert [*config.output[-1].dims] == [4]
    assert not config.HasField("dynamic_batching")


def test_the_model_for_normalized_floats_has_the_usual_values(exported: Path, tmp_path: Path, spec: PreprocessSpec):
    """Name, platform, largest batch, input [3, height, width] and output [classes], all float32."""
    triton.convert(exported, tmp_path)
    config = at(tmp_path / "models", "image_classifier")
    assert (config.platform, config.max_batch_size) == ("onnxruntime_onnx", 32)
    assert shapes(config.input) == {"image": [3, *spec.size]}
    outputs = shapes(config.output)
    assert outputs["logits"] == outputs["probabilities"] == [4]
    kinds = {one.name: one.data_type for one in (*config.input, *config.output)}
    assert (kinds["image"], kinds["logits"], kinds["probabilities"]) == (11, 11, 11)
    assert [one.batch_size for one in config.model_warmup] == [1, 32]
    plan = parsed((tmp_path / "tensorrt" / "image_classifier" / "config.pbtxt").read_text())
    assert (plan.name, plan.platform) == (config.name, "tensorrt_plan")
    assert shapes(plan.output) == {name: outputs[name] for name in ("logits", "embedding", "feature_map")}


def run_ensemble(models: Path, name: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What Triton does with an ensemble, by ONNX Runtime: steps in order, tensors handed on by their mapped names."""
    config = at(models, name)
    assert config.platform == "ensemble"
    known = dict(given)
    for step in config.ensemble_scheduling.step:
        assert step.model_version == -1
        session = onnxruntime.InferenceSession(models / step.model_name / "1" / "model.onnx")
        inside = at(models, step.model_name)
        assert {one.key for one in step.input_map} == {one.name for one in inside.input}
        assert {one.key for one in step.output_map} == {one.name for one in inside.output}
        names = [one.key for one in step.output_map]
        found = session.run(names, {one.key: known[one.value] for one in step.input_map})
        known |= {one.value: value for one, value in zip(step.output_map, found, strict=True)}
    return {one.name: known[one.name] for one in config.output}


@pytest.mark.parametrize("size", [(24, 20), (61, 83)])
def test_the_ensemble_answers_as_the_one_graph(size, exported: Path, tmp_path: Path, spec: PreprocessSpec):
    triton.convert(exported, tmp_path)
    models = tmp_path / "models"
    random = np.random.default_rng(8)
    images = random.integers(0, 256, (5, *size, 3), dtype=np.uint8)
    found = run_ensemble(models, "classifier_pipeline", {"image": images})
    pixels = np.stack([prepare(spec, image) for image in images])
    session = onnxruntime.InferenceSession(models / "classifier" / "1" / "model.onnx")
    expected = dict(zip(found, session.run(list(found), {"image": pixels}), strict=True))
    for name in ("logits", "probabilities"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
    np.testing.assert_array_equal(found["answer"], expected["answer"])
    assert [*at(models, "preprocess").input[0].dims] == [-1, -1, 3]
    assert (models / "classifier_pipeline" / "1").is_dir()


def test_where_a_graph_cannot_resize_the_ensemble_takes_resized_pixels(exported: Path, tmp_path: Path, spec):
    model = onnx.load_model(exported)
    said = {item.key: item.value for item in model.metadata_props}
    by_boxes = spec.model_copy(update={"interpolation": "box"})
    set_metadata(model, said | {"sortal.preprocess": canonical(by_boxes.model_dump(mode="json")).decode()})
    onnx.save_model(model, tmp_path / "boxes.onnx")
    triton.convert(tmp_path / "boxes.onnx", tmp_path / "out")
    assert [*at(tmp_path / "out" / "models", "classifier_pipeline").input[0].dims] == [*spec.size, 3]


def test_a_fixed_batch_becomes_one_model(exported: Path, tmp_path: Path):
    onnx.save_model(fixed(onnx.load_model(exported), 4), tmp_path / "fixed.onnx")
    triton.convert(tmp_path / "fixed.onnx", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "models").iterdir()] == ["classifier"]


def test_a_tensorrt_line_has_a_profile_where_the_batch_is_free(exported: Path, tmp_path: Path):
    words = shlex.split(tensorrt.command(exported))
    assert words[:4] == ["trtexec", "--onnx=model.onnx", "--saveEngine=model.plan", "--stronglyTyped"]
    assert words[4:] == [f"--{name}Shapes=image:{size}x3x24x20" for name, size in (("min", 1), ("opt", 8), ("max", 32))]
    onnx.save_model(fixed(onnx.load_model(exported), 4), tmp_path / "fixed.onnx")
    assert shlex.split(tensorrt.command(tmp_path / "fixed.onnx")) == words[:4]


def test_the_script_builds_where_it_is_typed(exported: Path, tmp_path: Path):
    """Beside the artifact, whose files are sealed; `trtexec` is a stand-in that shows what it was given."""
    artifact, bench = tmp_path / "an artifact", tmp_path / "bench"
    for folder in (artifact, bench):
        folder.mkdir()
    tensorrt.convert(exported, artifact)
    (bench / "trtexec").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (bench / "trtexec").chmod(0o755)
    done = subprocess.run(
        ["sh", str(artifact / "build.sh"), "--verbose"],
        cwd=bench,
        env={"PATH": f"{bench}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    given = done.stdout.splitlines()
    assert given[0] == f"--onnx={artifact / 'model.onnx'}"
    assert given[-1] == "--verbose"


def test_half_precision_is_in_the_file_and_its_ends_are_float32(exported: Path):
    model = to_half(onnx.load_model(exported))
    weights = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT16]
    assert len(weights) >= 4
    ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert set(ends) == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("batch", [1, 5])
def test_the_file_for_tensorrt_runs_on_a_cpu(batch: int, exported: Path, tmp_path: Path, pixels):
    from sortal.core.preprocess import PreprocessSpec, normalize

    tensorrt.convert(exported, tmp_path)
    spec = PreprocessSpec(size=(24, 20), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
    engine = open_engine(tmp_path / "model.onnx", threads=1)
    assert engine.run(normalize(spec, pixels[:batch])).logits.shape == (batch, 4)
