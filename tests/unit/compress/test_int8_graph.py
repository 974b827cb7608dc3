"""An int8 graph: which layers it touches, what it keeps, and how close it answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from smallgraph import SPEC, small_graph, small_images
from sortal.compress.graph import layers, quantized, simplified, tensors, with_metadata, with_outputs
from sortal.compress.ranges import Range, min_max, see_tensors
from sortal.compress.tail import add_tail, unknown_tail
from sortal.core.errors import BundleError
from sortal.core.preprocess import normalize
from sortal.runtime.engines.onnxruntime import open_session


@pytest.fixture(scope="module")
def ranges(graph_file: Path) -> dict[str, Range]:
    model = simplified(graph_file)
    names = tensors(model)
    session = open_session(with_outputs(model, names), threads=1, where="test")
    seen = see_tensors(session, names, SPEC, small_images(32).pixels)
    return {name: min_max(one) for name, one in seen.items()}


def _outputs(model: bytes) -> list[np.ndarray]:
    batch = normalize(SPEC, small_images(8, seed=3).pixels)
    return open_session(model, threads=1, where="test").run(["logits", "embedding", "feature_map"], {"image": batch})


def test_layers_are_those_that_lead_to_the_outputs(graph_file: Path) -> None:
    assert layers(simplified(graph_file)) == ("stem", "body", "head")


@pytest.mark.parametrize("narrow", [False, True])
def test_int8_answers_closely_and_is_smaller(graph_file: Path, ranges: dict[str, Range], *, narrow: bool) -> None:
    made = with_metadata(quantized(simplified(graph_file), ranges, narrow=narrow), {"a": "b"})
    for before, after in zip(_outputs(graph_file.read_bytes()), _outputs(made), strict=True):
        assert before.shape == after.shape
        # single values saturate on processors without VNNI, so the error is looked at as a whole
        assert np.sqrt(np.square(before - after).mean()) < 0.05 * np.sqrt(np.square(before).mean())
    weights = [numpy_helper.to_array(t) for t in onnx.load_model_from_string(made).graph.initializer]
    stored = [w for w in weights if w.dtype == np.int8 and w.ndim == 4]
    assert len(stored) == 2
    assert max(int(np.abs(w.astype(int)).max()) for w in stored) <= (64 if narrow else 127)
    assert not any(w.dtype == np.float32 and w.ndim == 4 for w in weights)


def test_layers_that_stay_in_float_keep_their_weights(graph_file: Path, ranges: dict[str, Range]) -> None:
    made = quantized(simplified(graph_file), ranges, floating=frozenset({"stem"}))
    weights = [numpy_helper.to_array(t) for t in made.graph.initializer if len(t.dims) == 4]
    assert sorted(str(w.dtype) for w in weights) == ["float32", "int8"]
    everything = frozenset(layers(simplified(graph_file)))
    plain = quantized(simplified(graph_file), ranges, floating=everything)
    assert not any(node.op_type == "QuantizeLinear" for node in plain.graph.node)


def test_one_layer_alone(graph_file: Path, ranges: dict[str, Range]) -> None:
    made = quantized(simplified(graph_file), ranges, only="head")
    convolutions = [numpy_helper.to_array(t) for t in made.graph.initializer if len(t.dims) == 4]
    assert {w.dtype for w in convolutions} == {np.dtype(np.float32)}


def test_a_quantized_graph_is_refused(tmp_path: Path, graph_file: Path, ranges: dict[str, Range]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(with_metadata(quantized(simplified(graph_file), ranges), {}))
    with pytest.raises(BundleError, match="quantized already"):
        simplified(path)


def test_the_unknown_score_is_put_back_with_small_matrices(tmp_path: Path, ranges: dict[str, Range]) -> None:
    """A score that is the largest of a projection of the embedding, stored in half precision."""
    model = small_graph()
    matrix = np.random.default_rng(4).normal(size=(16, 512)).astype(np.float16)
    model.graph.initializer.append(numpy_helper.from_array(matrix, "unknown.matrix"))
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["unknown.matrix"], ["unknown.wide"], name="unknown.wide", to=1),
            helper.make_node("MatMul", ["embedding", "unknown.wide"], ["unknown.all"], name="unknown.all"),
            helper.make_node("ReduceMax", ["unknown.all", "unknown.axes"], ["unknown_score"], name="unknown.output"),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "unknown.axes"))
    model.graph.output.append(helper.make_tensor_value_info("unknown_score", 1, ["batch", 1]))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert layers(simplified(path)) == ("stem", "body", "head")
    made = quantized(simplified(path), ranges)
    add_tail(made, unknown_tail(path))
    batch = normalize(SPEC, small_images(8, seed=3).pixels)
    session = open_session(with_metadata(made, {}), threads=1, where="test")
    embedding, score = session.run(["embedding", "unknown_score"], {"image": batch})
    expected = (embedding @ matrix.astype(np.float32)).max(axis=1, keepdims=True)
    assert np.abs(score - expected).max() < 0.02 * np.abs(expected).max()
    assert not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in made.graph.initializer)
