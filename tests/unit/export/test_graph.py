"""The exported file answers as the live module at every batch size, and carries nothing it should not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sortal.core.errors import BundleError
from sortal.core.preprocess import normalize
from sortal.export.graph import export_onnx
from sortal.export.head import BIAS, WEIGHT, name_head, set_head
from sortal.runtime.engines import ENGINES


def live(network: nn.Module, batch: np.ndarray) -> list[np.ndarray]:
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = [output.numpy() for output in network(torch.from_numpy(batch))]
    network.train(training)
    return outputs


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_engines_agree_with_the_live_module_at_any_batch_size(engine, size, network, exported, spec, pixels):
    batch = normalize(spec, pixels[:size])
    outputs = ENGINES.get(engine).open(exported, threads=1).run(batch)
    for found, expected in zip(
        (outputs.logits, outputs.embedding, outputs.feature_map), live(network, batch), strict=True
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_module_is_left_as_it_was(network, exported):
    assert all(module.training for module in network.modules())
    assert network.stem[2].inplace is True
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_module_partly_in_evaluation_mode_stays_so(network, spec, tmp_path):
    network.stem.eval()
    try:
        export_onnx(network, spec, tmp_path / "model.onnx")
        assert not network.stem[1].training
        assert network.body.training
    finally:
        network.train()


def test_export_is_quiet(network, spec, tmp_path, capfd):
    export_onnx(network, spec, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")


def test_the_file_has_a_free_batch_a_fixed_opset_and_no_trace_of_the_machine(exported):
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert [item.version for item in model.opset_import if item.domain == ""] == [20]
    for value in [*model.graph.input, *model.graph.output]:
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not re.search(rb"\.py|/home|/root|site-packages", exported.read_bytes())


def test_nothing_is_left_to_compute_that_no_image_changes(small_vit):
    _, file = small_vit
    graph = onnx.load(file).graph
    stored = {tensor.name for tensor in graph.initializer} | {""}
    assert [node.op_type for node in graph.node if stored.issuperset(node.input)] == []


def test_a_position_embedding_for_another_size_is_resized_before_the_file_is_written(small_vit):
    network, file = small_vit
    batch = np.random.default_rng(0).normal(size=(3, 3, 56, 56)).astype(np.float32)
    outputs = ENGINES.get("onnxruntime").open(file, threads=1).run(batch)
    for found, expected in zip(
        (outputs.logits, outputs.embedding, outputs.feature_map), live(network, batch), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("classes", [4, 9])
def test_another_head_can_be_written_into_the_file(classes, network, exported, spec, pixels, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(exported.read_bytes())
    random = np.random.default_rng(1)
    weight, bias = random.normal(size=(classes, 12)).astype(np.float32), random.normal(size=classes).astype(np.float32)
    set_head(file, weight, bias, metadata={"sortal.licence": "MIT"})
    batch = normalize(spec, pixels[:7])
    opened = ENGINES.get("onnxruntime").open(file, threads=1)
    outputs = opened.run(batch)
    _, embedding, feature_map = live(network, batch)
    np.testing.assert_allclose(outputs.logits, embedding @ weight.T + bias, atol=1e-4)
    np.testing.assert_allclose(outputs.feature_map, feature_map, atol=1e-4)
    assert opened.metadata["sortal.licence"] == "MIT"
    assert opened.metadata["sortal.bundle_id"] == "0" * 64


def test_a_head_of_the_wrong_shape_is_refused_and_the_file_kept(exported, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(exported.read_bytes())
    with pytest.raises(BundleError, match=r"\(classes, 12\)"):
        set_head(file, np.zeros((4, 11), np.float32), np.zeros(4, np.float32))
    assert file.read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("form", ["gemm", "gemm transposed", "matmul", "matmul add", "add matmul"])
def test_every_form_of_a_linear_head_is_found(form):
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    model = linear_model(form, weight, np.asarray([1, 2, 3], np.float32))
    assert name_head(model)
    onnx.checker.check_model(model)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(stored) == {WEIGHT, BIAS}
    np.testing.assert_array_equal(stored[WEIGHT], weight)
    np.testing.assert_array_equal(stored[BIAS], [0, 0, 0] if form == "matmul" else [1, 2, 3])


def test_a_head_that_is_not_linear_is_left_alone():
    model = linear_model("gemm", np.zeros((3, 4), np.float32), np.zeros(3, np.float32))
    model.graph.node[-1].output[0] = "scaled"
    model.graph.node.append(onnx.helper.make_node("Relu", ["scaled"], ["logits"]))
    before = model.SerializeToString()
    assert not name_head(model)
    assert model.SerializeToString() == before


def linear_model(form: str, weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    make = onnx.helper.make_node
    nodes = {
        "gemm": [make("Gemm", ["embedding", "w", "b"], ["logits"], transB=1)],
        "gemm transposed": [make("Gemm", ["embedding", "wt", "b"], ["logits"])],
        "matmul": [make("MatMul", ["embedding", "wt"], ["logits"])],
        "matmul add": [make("MatMul", ["embedding", "wt"], ["m"]), make("Add", ["m", "b"], ["logits"])],
        "add matmul": [make("MatMul", ["embedding", "wt"], ["m"]), make("Add", ["b", "m"], ["logits"])],
    }[form]
    stored = {"w": weight, "wt": weight.T.copy(), "b": bias}
    used = {name for node in nodes for name in node.input}
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [make("Identity", ["image"], ["embedding"]), *nodes],
        "head",
        [info("image", 1, ["batch", 4])],
        [info("logits", 1, ["batch", 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in stored.items() if name in used],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_writing_to_a_folder_that_cannot_be_made_is_one_error(network, spec, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="refused") as caught:
        export_onnx(network, spec, Path(tmp_path, "file", "model.onnx"))
    assert type(caught.value).__name__ == "MachineError"
