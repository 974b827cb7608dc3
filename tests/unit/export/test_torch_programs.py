"""Programs of torch.export and TorchScript: nothing pickled, no path of this machine, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from sortal.core.errors import BundleError
from sortal.export.artifacts import torch_program, torch_uint8, torchscript
from sortal.export.engines import torch as engine
from sortal.export.engines.pt2_inspection import inspect_program
from sortal.export.sides import file_side
from sortal.export.torch_graph import as_module

FIXED = "model/models/model.json"


@pytest.fixture(scope="session")
def program(exported, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    torch_program.convert(exported, folder)
    return folder / "model.pt2"


@pytest.fixture(scope="session")
def script(exported, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("script")
    torchscript.convert(exported, folder)
    return folder / "model.pt"


def altered(program: Path, folder: Path, changes: dict[str, bytes]) -> Path:
    """A copy with parts replaced or added."""
    target = folder / "model.pt2"
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(target, "w") as new:
        names = old.namelist()
        for name in names:
            new.writestr(name, changes.get(name, old.read(name)))
        for name in set(changes) - set(names):
            new.writestr(name, changes[name])
    return target


def graph_with(program: Path, old: str, new: str) -> dict[str, bytes]:
    with zipfile.ZipFile(program) as archive:
        text = archive.read(FIXED).decode()
    assert old in text
    return {FIXED: text.replace(old, new).encode()}


@pytest.mark.parametrize("count", [1, 3, 33])
def test_both_answer_as_the_graph_at_any_batch_size(count, exported, program, script, spec):
    batch = np.random.default_rng(count).normal(size=(count, 3, *spec.size)).astype(np.float32)
    expected = file_side(exported).outputs(batch)
    for path in (program, script):
        found = engine.open(path, threads=1).run(batch)
        for name in ("logits", "embedding", "feature_map"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5)


def test_pixels_go_in_where_normalization_is_part_of_the_program(exported, pixels, tmp_path):
    torch_uint8.convert(exported, tmp_path)
    side, original = file_side(tmp_path / "model.pt2", engine="torch"), file_side(exported)
    np.testing.assert_allclose(side.logits(pixels), original.logits(pixels), rtol=1e-4, atol=1e-4)


def test_a_program_holds_no_pickle_and_no_path_of_this_machine(program):
    with zipfile.ZipFile(program) as archive:
        for info in archive.infolist():
            data = archive.read(info)
            assert not data.startswith(b"\x80"), info.filename
            assert not data.startswith(b"PK"), info.filename
            assert b"/sortal/" not in data
        assert archive.getinfo("model/data/sample_inputs/model.pt").file_size == 0


def test_opening_never_unpickles(program, script, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    for path in (program, script):
        engine.open(path, threads=1).close()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("torch.ops.aten.conv2d.default", "torch.os.system", "none of ATen's"),
        ("torch.ops.aten.conv2d.default", "torch.ops.mine.evil.default", "none of ATen's"),
        ("integer=True", "integer=print(1)", "no size"),
        ("positive=True", "positive=().__class__", "two underscores"),
        ('"guards_code": []', '"guards_code": ["print(1)"]', "guards"),
    ],
)
def test_a_graph_that_would_run_code_is_refused(old, new, said, program, tmp_path):
    bad = altered(program, tmp_path, graph_with(program, old, new))
    with pytest.raises(BundleError, match=said):
        engine.open(bad, threads=1)


@pytest.mark.parametrize(
    "name", ["model/data/sample_inputs/model.pt", "model/data/weights/model.pt", "model/data/aotinductor/model/a.so",
             "model/data/constants/custom_obj_0", "model/data/constants/opaque_obj_0"]
)  # fmt: skip
def test_a_part_that_would_be_unpickled_or_loaded_is_refused(name, program, tmp_path):
    with pytest.raises(BundleError, match="could run code"):
        inspect_program(altered(program, tmp_path, {name: b"\x80\x04N."}))


def test_a_pickled_weight_is_refused(program, tmp_path):
    name = "model/data/weights/model_weights_config.json"
    with zipfile.ZipFile(program) as archive:
        config = json.loads(archive.read(name))
    next(iter(config["config"].values()))["use_pickle"] = True
    with pytest.raises(BundleError, match="a pickled tensor"):
        inspect_program(altered(program, tmp_path, {name: json.dumps(config).encode()}))


@pytest.mark.parametrize("ending", ["pt2", "pt"])
def test_a_pickle_by_another_name_is_refused(ending, tmp_path):
    path = tmp_path / f"model.{ending}"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(BundleError):
        engine.open(path, threads=1)


@pytest.mark.parametrize("ending", ["pt2", "pt"])
def test_a_short_file_is_refused(ending, program, script, tmp_path):
    whole = program if ending == "pt2" else script
    path = tmp_path / f"model.{ending}"
    path.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(BundleError):
        engine.open(path, threads=1)


def test_threads_are_given_back(program, spec):
    before = torch.get_num_threads()
    opened = engine.open(program, threads=before + 1)
    opened.run(np.zeros((1, 3, *spec.size), np.float32))
    assert torch.get_num_threads() == before
    opened.close()
    with pytest.raises(BundleError, match="closed"):
        opened.run(np.zeros((1, 3, *spec.size), np.float32))


def test_a_wrong_shape_is_told(program):
    with pytest.raises(BundleError, match="the model takes any x 3 x 24 x 20"):
        engine.open(program, threads=1).run(np.zeros((1, 3, 24, 21), np.float32))


def test_a_fixed_batch_stays_fixed_and_is_filled_up(exported, spec, tmp_path):
    model = onnx.load(exported)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "fixed.onnx")
    torch_program.convert(tmp_path / "fixed.onnx", tmp_path)
    batch = np.random.default_rng(0).normal(size=(6, 3, *spec.size)).astype(np.float32)
    found = engine.open(tmp_path / "model.pt2", threads=1).run(batch)
    np.testing.assert_allclose(found.logits, file_side(exported).outputs(batch).logits, rtol=1e-5, atol=1e-5)


def test_an_operator_that_pytorch_lacks_is_named_with_its_layer(exported, tmp_path):
    model = onnx.load(exported)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.name = "NonMaxSuppression", "body/suppress"
    with pytest.raises(BundleError, match="layer body/suppress: the operator NonMaxSuppression") as refused:
        as_module(model)
    assert "onnx, onnx-uint8, openvino" in str(refused.value)


def test_a_layer_whose_shapes_do_not_fit_is_named(exported):
    model = onnx.load(exported)
    node = next(node for node in model.graph.node if node.op_type == "Gemm")
    node.attribute.remove(node.attribute[0])
    module = as_module(model)
    with pytest.raises(BundleError, match=f"layer {node.name}"):
        module(torch.zeros(1, 3, 24, 20))


def test_weights_keep_their_names_and_can_be_trained(exported):
    model = onnx.load(exported)
    module = as_module(model)
    names = {tensor.name for tensor in model.graph.initializer if tensor.data_type == 1 and tensor.dims}
    assert {"head.weight", "head.bias"} <= names <= set(module.state_dict()) | set(module.keys())
    logits = module(torch.rand(2, 3, 24, 20))[0]
    logits.sum().backward()
    assert module.get_parameter("head.weight").grad.abs().sum() > 0
    module.eval()
    first = module(torch.ones(1, 3, 24, 20))[0]
    module.train()
    torch.testing.assert_close(module(torch.ones(1, 3, 24, 20))[0], first, rtol=0, atol=0)


def test_names_that_pytorch_does_not_allow_are_kept_apart():
    """`a` and `a.b` cannot both be attributes; an empty part cannot be one either."""
    stored = [onnx.numpy_helper.from_array(np.full((3,), value, np.float32), name)
              for name, value in (("a", 1.0), ("a.b", 2.0), ("c..d", 4.0), ("forward", 8.0))]  # fmt: skip
    nodes = [
        helper.make_node("Add", ["image" if not place else f"s{place - 1}", tensor.name], [f"s{place}"])
        for place, tensor in enumerate(stored)
    ]
    graph = helper.make_graph(
        nodes,
        "names",
        [helper.make_tensor_value_info("image", 1, ["batch", 3])],
        [helper.make_tensor_value_info("s3", 1, None)],
        stored,
    )
    module = as_module(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert set(module.keys()) == {"a", "a.b", "c..d", "forward"}
    assert set(module.keys().values()) == set(module.state_dict())
    assert module(torch.zeros(1, 3))[0].tolist() == [[15.0] * 3]


def test_an_altered_copy_needs_the_ending_it_has(script, tmp_path):
    shutil.copyfile(script, tmp_path / "model.pt2")
    with pytest.raises(BundleError):
        engine.open(tmp_path / "model.pt2", threads=1)
