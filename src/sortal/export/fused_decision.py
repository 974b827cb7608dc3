"""The decision inside a graph: calibrated probabilities, the answer, whether it goes to a person, and whether the image
is unknown, from `logits` and `unknown_score` as `core.decision` computes them.

    probabilities (N, C) float32     softmax(logits / temperature + bias), in float64 and rounded once
    answer (N,) int64                index into the labels: the likeliest class, or the one of least expected cost
    abstained (N,) bool              below its threshold, above a doubt or the limit of cost, or unknown
    unknown (N,) bool                only where the graph has an unknown score and the decision a limit for it
    family_probabilities (N, P)      only where classes have families: their sums, for `core.backoff`

Probabilities are float32 on both sides, so limits are rounded to the next float32 that splits them in the same way; the
comparisons are then exact in any arithmetic. Expected costs are float64, summed in another order than NumPy's: answers
may differ where two costs are equal but for the last bits of a float64.

Shapes: N images, C classes, P families.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.decision import DecisionSpec
from sortal.core.labels import LabelSet
from sortal.export.nodes import Nodes
from sortal.runtime.engines.onnxruntime import UNKNOWN_SCORE

if TYPE_CHECKING:
    import onnx

PROBABILITIES, ANSWER, ABSTAINED, UNKNOWN = "probabilities", "answer", "abstained", "unknown"
FAMILIES = "family_probabilities"

_FLOAT, _INT64, _BOOL, _DOUBLE = 1, 7, 9, 11
"""Of `onnx.TensorProto`."""


def decision_outputs(decision: DecisionSpec, labels: LabelSet, *, has_score: bool) -> tuple[str, ...]:
    """The names of the outputs that `add_decision` adds."""
    unknown = (UNKNOWN,) if has_score and decision.unknown is not None else ()
    families = (FAMILIES,) if labels.coarse_index() is not None else ()
    return (PROBABILITIES, ANSWER, ABSTAINED, *unknown, *families)


def add_decision(graph: onnx.GraphProto, decision: DecisionSpec, labels: LabelSet, *, prefix: str) -> None:
    """Append the decision to a graph with the output `logits`, and perhaps `unknown_score`, in place."""
    nodes = Nodes(graph, prefix)
    present = [output.name for output in graph.output]
    chances = nodes.give(_probabilities(nodes, decision, len(labels)), PROBABILITIES)
    expected = _expected_costs(nodes, decision, chances)
    best = (
        nodes.node("ArgMax", chances, axis=1, keepdims=0)
        if expected is None
        else nodes.node("ArgMin", expected, axis=1, keepdims=0)
    )
    answer = nodes.give(best, ANSWER)
    reasons = _reasons(nodes, decision, chances, expected, answer)
    if decision.unknown is not None and UNKNOWN_SCORE in present:
        limit = nodes.constant(_below(decision.unknown.threshold))
        known = nodes.node("LessOrEqual", UNKNOWN_SCORE, limit)  # no number is not known either
        reasons.append(nodes.give(nodes.node("Not", known), UNKNOWN))
    away = reasons[0]
    for reason in reasons[1:]:
        away = nodes.node("Or", away, reason)
    nodes.give(away, ABSTAINED)
    parents = labels.coarse_index()
    if parents is not None:
        nodes.give(nodes.node("MatMul", chances, nodes.constant(_members(parents))), FAMILIES)
    names = decision_outputs(decision, labels, has_score=UNKNOWN_SCORE in present)
    _declare(graph, names, len(labels), 0 if parents is None else max(parents) + 1)


def _probabilities(nodes: Nodes, decision: DecisionSpec, classes: int) -> str:
    scaled = nodes.node("Cast", "logits", to=_DOUBLE)
    scaled = nodes.node("Div", scaled, nodes.store(np.asarray(decision.temperature, np.float64)))
    bias = np.zeros(classes) if decision.bias is None else np.asarray(decision.bias, np.float64)
    softmax = nodes.node("Softmax", nodes.node("Add", scaled, nodes.store(bias)), axis=1)
    return nodes.node("Cast", softmax, to=_FLOAT)


def _expected_costs(nodes: Nodes, decision: DecisionSpec, chances: str) -> str | None:
    """(N, C) float64, where mistakes cost."""
    if decision.costs is None:
        return None
    costs = nodes.store(np.asarray(decision.costs, np.float64))
    return nodes.node("MatMul", nodes.node("Cast", chances, to=_DOUBLE), costs)


def _reasons(nodes: Nodes, decision: DecisionSpec, chances: str, expected: str | None, answer: str) -> list[str]:
    """(N,) each: why an answer is not given, unknown images aside."""
    column = nodes.node("Unsqueeze", answer, nodes.axes(1))
    own = nodes.node("Squeeze", nodes.node("GatherElements", chances, column, axis=1), nodes.axes(1))
    limit = nodes.constant(_above(decision.threshold))
    if decision.class_thresholds is not None:
        limits = np.maximum(decision.threshold, np.asarray(decision.class_thresholds, np.float64))
        limit = nodes.node("Gather", nodes.constant(_above(limits)), answer)
    reasons = [nodes.node("Less", own, limit)]
    if decision.doubts is not None:
        doubts = np.asarray(decision.doubts, np.float64)
        is_own = nodes.node("Equal", column, nodes.store(np.arange(len(doubts), dtype=np.int64)[None]))
        over = nodes.node("Greater", chances, nodes.constant(_below(doubts)))
        others = nodes.node("Cast", nodes.node("And", over, nodes.node("Not", is_own)), to=_FLOAT)
        most = nodes.node("ReduceMax", others, nodes.axes(1), keepdims=0)
        reasons.append(nodes.node("Cast", most, to=_BOOL))
    if expected is not None and decision.cost_limit is not None:
        cost = nodes.node("Squeeze", nodes.node("GatherElements", expected, column, axis=1), nodes.axes(1))
        reasons.append(nodes.node("Greater", cost, nodes.store(np.asarray(decision.cost_limit, np.float64))))
    return reasons


def _above(limit: Any) -> NDArray[np.float32]:
    """The smallest float32 that is not below a limit: for float32 p, p < limit is p < that."""
    exact = np.asarray(limit, np.float64)
    rounded = exact.astype(np.float32)
    return np.asarray(np.where(rounded.astype(np.float64) < exact, np.nextafter(rounded, np.float32(np.inf)), rounded))


def _below(limit: Any) -> NDArray[np.float32]:
    """The largest float32 that is not above a limit: for float32 p, p > limit is p > that."""
    return -_above(-np.asarray(limit, np.float64))


def _members(parents: Sequence[int]) -> NDArray[np.float32]:
    members = np.zeros((len(parents), max(parents) + 1), np.float32)
    members[np.arange(len(parents)), list(parents)] = 1.0
    return members


def _declare(graph: onnx.GraphProto, names: Sequence[str], classes: int, families: int) -> None:
    from onnx import helper

    logits = next(output for output in graph.output if output.name == "logits")
    batch = logits.type.tensor_type.shape.dim[0]
    size = batch.dim_param or batch.dim_value
    kinds: dict[str, tuple[int, list[int]]] = {
        PROBABILITIES: (_FLOAT, [classes]),
        ANSWER: (_INT64, []),
        ABSTAINED: (_BOOL, []),
        UNKNOWN: (_BOOL, []),
        FAMILIES: (_FLOAT, [families]),
    }
    graph.output.extend(helper.make_tensor_value_info(name, kinds[name][0], [size, *kinds[name][1]]) for name in names)
