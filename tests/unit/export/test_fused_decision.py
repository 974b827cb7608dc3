"""The decision in a graph is the decision of `core.decision`, bit for bit, whatever its thresholds and costs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from sortal.core.backoff import back_off, sum_to_parents
from sortal.core.decision import DecisionSpec, UnknownSpec, decide, expected_costs
from sortal.core.labels import LabelSet, label_set
from sortal.export.fused_decision import add_decision, decision_outputs
from sortal.runtime.engines.openvino import import_openvino

CLASSES = 4
LABELS = LabelSet(names=("a", "b", "c", "d"))
SHARES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1 / 3, 0.1, 1.0]), st.floats(0.0, 1.0))
COSTS = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 10.0]), st.floats(0.0, 100.0))
LOGITS = hnp.arrays(
    np.float32, (6, CLASSES), elements=st.one_of(st.sampled_from([0.0, 1.0, -2.0]), st.floats(-30, 30, width=32))
)
SCORES = hnp.arrays(
    np.float32, 6, elements=st.one_of(st.sampled_from([0.0, 0.1, float("nan")]), st.floats(-9, 9, width=32))
)


@st.composite
def decisions(draw: st.DrawFn) -> DecisionSpec:
    def maybe(strategy: st.SearchStrategy):
        return draw(st.one_of(st.none(), strategy))

    each = st.tuples(*[SHARES] * CLASSES)
    costs = maybe(st.tuples(*[st.tuples(*[COSTS] * CLASSES)] * CLASSES))
    limit = maybe(st.one_of(st.sampled_from([0.0, 0.1]), st.floats(-9, 9)))
    return DecisionSpec(
        temperature=draw(st.one_of(st.just(1.0), st.floats(0.05, 20.0))),
        bias=maybe(st.tuples(*[st.floats(-3, 3)] * CLASSES)),
        threshold=draw(SHARES),
        class_thresholds=maybe(each),
        doubts=maybe(each),
        costs=costs,
        cost_limit=None if costs is None else maybe(COSTS),
        unknown=None if limit is None else UnknownSpec(method="energy", threshold=limit),
    )


def graph(decision: DecisionSpec, labels: LabelSet = LABELS) -> onnx.ModelProto:
    """Only the decision, over logits and scores that are handed in."""
    info, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    made = helper.make_graph(
        [
            helper.make_node("Identity", ["given"], ["logits"]),
            helper.make_node("Identity", ["score"], ["unknown_score"]),
        ],
        "decision",
        [info("given", kind, ["batch", len(labels)]), info("score", kind, ["batch"])],
        [info("logits", kind, ["batch", len(labels)]), info("unknown_score", kind, ["batch"])],
    )
    add_decision(made, decision, labels, prefix="fused.")
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, logits: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"given": logits, "score": scores}), strict=True))


def tied(decision: DecisionSpec, chances: np.ndarray) -> np.ndarray:
    """(N,) rows where the order of a float64 sum decides: equal costs, or one at the limit."""
    if decision.costs is None:
        return np.zeros(len(chances), bool)
    costs = np.sort(expected_costs(decision.costs, chances), axis=1)
    near = 1e-12 * max(1.0, float(np.max(decision.costs)))
    at_limit = np.zeros(len(chances), bool)
    if decision.cost_limit is not None:
        at_limit = (np.abs(costs - decision.cost_limit) < near).any(axis=1)
    return (costs[:, 1] - costs[:, 0] < near) | at_limit


@settings(max_examples=100, deadline=None, derandomize=True)
@given(decisions(), LOGITS, SCORES)
@example(DecisionSpec(threshold=0.25), np.zeros((6, CLASSES), np.float32), np.zeros(6, np.float32))
@example(DecisionSpec(doubts=(0.25,) * 4), np.zeros((6, CLASSES), np.float32), np.zeros(6, np.float32))
def test_it_is_the_decision_of_the_reference(decision: DecisionSpec, logits: np.ndarray, scores: np.ndarray) -> None:
    found, expected = run(graph(decision), logits, scores), decide(decision, logits, scores)
    np.testing.assert_array_equal(found["probabilities"], expected.probabilities)
    firm = ~tied(decision, expected.probabilities)
    np.testing.assert_array_equal(found["answer"][firm], expected.index[firm])
    np.testing.assert_array_equal(found["abstained"][firm], expected.abstained[firm])
    if decision.unknown is not None:
        np.testing.assert_array_equal(found["unknown"], expected.unknown)
    assert ("unknown" in found) is (decision.unknown is not None)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(decisions(), LOGITS, SCORES)
def test_openvino_decides_alike_but_for_what_rounding_of_float32_decides(decision, logits, scores) -> None:
    """Its CPU computes float64 in float32: who is within a millionth of a limit or of another class may differ."""
    core = import_openvino().Core()
    compiled = core.compile_model(
        core.read_model(graph(decision).SerializeToString(), b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = compiled({"given": logits, "score": scores})
    expected = decide(decision, logits, scores)
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=2e-6)
    firm = ~_shaky(decision, expected.probabilities)
    np.testing.assert_array_equal(found["answer"][firm], expected.index[firm])
    np.testing.assert_array_equal(found["abstained"][firm], expected.abstained[firm])
    if decision.unknown is not None:
        limit = decision.unknown.threshold
        far = ~(np.abs(scores.astype(np.float64) - limit) < 1e-5 * max(1.0, abs(limit)))
        np.testing.assert_array_equal(found["unknown"][far], expected.unknown[far])


def _shaky(decision: DecisionSpec, chances: np.ndarray) -> np.ndarray:
    """(N,) rows with a probability or a cost within rounding of what it is compared with."""
    exact = chances.astype(np.float64)
    limits = [decision.threshold, *(decision.class_thresholds or ()), *(decision.doubts or ())]
    shaky = np.any([(np.abs(exact - limit) < 1e-5).any(axis=1) for limit in limits], axis=0)
    top = np.sort(exact, axis=1)
    shaky |= top[:, -1] - top[:, -2] < 1e-5
    if decision.costs is not None:
        largest = max(float(np.max(decision.costs)), 1.0)
        costs = np.sort(expected_costs(decision.costs, chances), axis=1)
        shaky |= costs[:, 1] - costs[:, 0] < 1e-4 * largest
        if decision.cost_limit is not None:
            shaky |= (np.abs(costs - decision.cost_limit) < 1e-4 * largest).any(axis=1)
    return shaky


def test_families_come_with_their_probabilities_for_backing_off() -> None:
    labels = label_set(["oak", "fir", "cat", "elm"], {"oak": "tree", "fir": "tree", "cat": "animal", "elm": "tree"})
    parents = labels.coarse_index()
    assert parents is not None
    logits = np.random.default_rng(0).normal(0, 1, (200, 4)).astype(np.float32)
    found = run(graph(DecisionSpec(), labels), logits, np.zeros(200, np.float32))
    np.testing.assert_allclose(
        found["family_probabilities"], sum_to_parents(found["probabilities"], parents), atol=2e-7
    )
    backed = back_off(found["probabilities"], parents, 0.6)
    best, family = found["probabilities"].max(axis=1), found["family_probabilities"]
    np.testing.assert_array_equal(backed.level == 0, best >= 0.6)
    np.testing.assert_array_equal(backed.level == 1, (best < 0.6) & (family.max(axis=1) >= 0.6))


def test_outputs_are_named_as_they_are() -> None:
    spec = UnknownSpec(method="energy", threshold=0.0)
    named = decision_outputs(DecisionSpec(unknown=spec), LABELS, has_score=True)
    assert named == ("probabilities", "answer", "abstained", "unknown")
    assert "unknown" not in decision_outputs(DecisionSpec(unknown=spec), LABELS, has_score=False)
    outputs = {output.name: output.type.tensor_type for output in graph(DecisionSpec(unknown=spec)).graph.output}
    assert set(named) < set(outputs)
    assert outputs["answer"].elem_type == TensorProto.INT64
    assert outputs["abstained"].elem_type == outputs["unknown"].elem_type == TensorProto.BOOL


@pytest.mark.parametrize("limit", [0.1, 1 / 3, 0.7, 1e-30, 1.0])
def test_a_probability_at_its_limit_is_compared_exactly(limit: float) -> None:
    """The float32 values next to a limit fall on the sides on which float64 sees them."""
    near = np.float32(limit)
    own = np.array([np.nextafter(near, np.float32(0)), near, min(np.nextafter(near, np.float32(2)), np.float32(1))])
    values = np.stack([own.astype(np.float32), np.zeros(3, np.float32)], axis=1)
    decision = DecisionSpec(unknown=UnknownSpec(method="energy", threshold=limit))
    found = run(graph(decision, LabelSet(names=("a", "b"))), values, own.astype(np.float32))
    np.testing.assert_array_equal(found["unknown"], own.astype(np.float64) > limit)
