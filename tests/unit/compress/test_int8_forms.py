"""The form for OpenVINO and TensorRT, verdicts, other tools, and what `sortal calibrate` carries over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from smallgraph import SPEC, small_images
from sortal.compress.fused_form import fused_form, rounded_layers, zero_points
from sortal.compress.graph import layers, quantized, simplified, tensors, with_metadata, with_outputs
from sortal.compress.judge import Price
from sortal.compress.pricing import Budget, Candidate
from sortal.compress.ranges import min_max, see_tensors
from sortal.compress.verdict import Timed, may_gain, verdicts
from sortal.core.preprocess import normalize
from sortal.core.report import Metric
from sortal.runtime.engines.onnxruntime import open_session


@pytest.fixture(scope="module")
def gated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions with a hard swish between them, as MobileNetV3 has, and a linear head."""
    random = np.random.default_rng(0)
    stored = {
        "first": random.normal(size=(8, 3, 3, 3)),
        "second": 0.3 * random.normal(size=(8, 8, 3, 3)),
        "b1": random.normal(size=8),
        "b2": random.normal(size=8),
        "head.weight": random.normal(size=(2, 8)),
        "head.bias": np.zeros(2),
    }
    gate = {"alpha": 1 / 6, "beta": 0.5}
    nodes = [
        helper.make_node("Conv", ["image", "first", "b1"], ["c1"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("HardSigmoid", ["c1"], ["g1"], name="gate", **gate),
        helper.make_node("Mul", ["c1", "g1"], ["a1"], name="gated"),
        helper.make_node("Conv", ["a1", "second", "b2"], ["c2"], name="body", pads=[1, 1, 1, 1]),
        helper.make_node("HardSigmoid", ["c2"], ["g2"], name="last gate", **gate),
        helper.make_node("Mul", ["g2", "c2"], ["feature_map"], name="last gated"),
        helper.make_node("ReduceMean", ["feature_map", "axes"], ["embedding"], name="pool", keepdims=0),
        helper.make_node("Gemm", ["embedding", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    tensors.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    shapes = {"logits": ["batch", 2], "embedding": ["batch", 8], "feature_map": ["batch", 8, 16, 16]}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        tensors,
    )
    path = tmp_path_factory.mktemp("gated") / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def _rounded(path: Path, *, symmetric: bool = False) -> onnx.ModelProto:
    model = simplified(path)
    names = tensors(model)
    session = open_session(with_outputs(model, names), threads=1, where="test")
    seen = see_tensors(session, names, SPEC, small_images(32).pixels)
    return quantized(model, {name: min_max(one) for name, one in seen.items()}, symmetric=symmetric)


def _logits(model: bytes) -> np.ndarray:
    batch = normalize(SPEC, small_images(8, seed=3).pixels)
    found: np.ndarray = open_session(model, threads=1, where="test").run(["logits"], {"image": batch})[0]
    return found


def test_no_pair_stands_between_a_layer_and_its_activation(gated_file: Path) -> None:
    plain = _rounded(gated_file)
    fused = fused_form(plain)
    made = {name: node for node in fused.graph.node for name in node.output}
    swishes = [node for node in fused.graph.node if node.op_type == "HardSwish"]
    assert [made[node.input[0]].op_type for node in swishes] == ["Conv", "Conv"]
    assert not any(node.op_type == "HardSigmoid" for node in fused.graph.node)
    assert rounded_layers(fused) == rounded_layers(plain) == dict.fromkeys(("stem", "body", "head"), True)
    assert sum(node.op_type == "HardSigmoid" for node in plain.graph.node) == 2  # the original is left as it was
    exact, close = _logits(gated_file.read_bytes()), _logits(with_metadata(fused, {}))
    assert np.sqrt(np.square(exact - close).mean()) < 0.05 * np.sqrt(np.square(exact).mean())


def test_a_pair_that_integers_read_stays(graph_file: Path) -> None:
    plain = _rounded(graph_file)
    kinds = [node.op_type for node in fused_form(plain).graph.node]
    assert kinds.count("QuantizeLinear") >= 3  # of the image, behind the first layer, in front of the sum


def test_a_gate_with_other_slopes_is_no_hard_swish(gated_file: Path) -> None:
    model = simplified(gated_file)
    for node in model.graph.node:
        if node.op_type == "HardSigmoid":
            next(item for item in node.attribute if item.name == "alpha").f = 0.2
    assert not any(node.op_type == "HardSwish" for node in fused_form(model).graph.node)


def test_what_tensorrt_takes_is_symmetric_and_complete(gated_file: Path) -> None:
    made = fused_form(_rounded(gated_file, symmetric=True))
    assert set(rounded_layers(made)) == set(layers(simplified(gated_file)))
    assert all(rounded_layers(made).values())
    assert set(zero_points(made).values()) == {0}
    uneven = zero_points(_rounded(gated_file))
    assert any(uneven.values())
    stored = {one.name: one.data_type for one in made.graph.initializer}
    biases = [node.input[2] for node in made.graph.node if node.op_type == "Conv"]
    assert all(stored[name] == TensorProto.FLOAT for name in biases)


def _timed(
    name: str,
    ms: float,
    ratio: tuple[float, float],
    *,
    moved: float,
    drop: float = 0.0,
    floating: tuple[str, ...] = (),
    size_bytes: int = 100,
) -> Timed:
    cost = Price(
        accuracy=Metric(value=0.9),
        accuracy_drop=Metric(value=drop),
        macro_drop=Metric(value=drop),
        flips=np.zeros(0, np.int64),
        expected_flips=0.0,
        moved=moved,
        recalls=(np.ones(2), np.ones(2)),
        broken=(),
    )
    one = Candidate(
        name=name, path=Path("model.onnx"), method="PTQ", price=cost, size_bytes=size_bytes, floating=floating
    )
    return Timed(candidate=one, ms=ms, ratio=Metric(value=sum(ratio) / 2, low=ratio[0], high=ratio[1], n=30))


def test_the_fastest_within_the_budget_is_taken_and_of_equals_the_closest() -> None:
    found = [
        _timed("close", 4.1, (0.5, 0.6), moved=0.001),
        _timed("coarse", 3.0, (0.4, 0.5), moved=0.5),  # the same graph with other ranges: only chance is faster
        _timed("slow but exact", 7.0, (0.8, 0.9), moved=0.0, floating=("stem",)),
        _timed("not faster", 8.0, (0.9, 1.1), moved=0.0),
        _timed("lossy", 2.0, (0.2, 0.3), moved=0.0, drop=3.0),
    ]
    told = {one.candidate.name: one.verdict for one in verdicts(found, Budget(max_drop=0.5))}
    assert told["close"] == "shipped"
    assert told["coarse"] == told["slow but exact"] == "fits"
    assert told["not faster"] == "not faster than float32 on this machine"
    assert told["lossy"] == "loses 3.00 points, more than 0.5"


def test_what_is_clearly_larger_is_not_taken_for_moving_less() -> None:
    found = [
        _timed("calm but large", 4.0, (0.5, 0.6), moved=0.0, floating=("head",), size_bytes=120),
        _timed("small", 4.0, (0.5, 0.6), moved=0.1),
    ]
    told = {one.candidate.name: one.verdict for one in verdicts(found, Budget(max_drop=0.5))}
    assert told == {"calm but large": "fits", "small": "shipped"}


def test_training_is_worth_it_only_where_accuracy_is_what_is_missing() -> None:
    budget = Budget(max_drop=0.5)
    lossy = _timed("lossy", 2.0, (0.2, 0.3), moved=0.0, drop=3.0)
    slow = _timed("slow", 8.0, (1.0, 1.2), moved=0.0, drop=3.0)
    good = _timed("good", 2.0, (0.2, 0.3), moved=0.0)
    assert may_gain([lossy, slow], budget)
    assert not may_gain([slow], budget)
    assert not may_gain([lossy, good], budget)
