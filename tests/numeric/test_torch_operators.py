"""Each operator of `export.torch_graph` against ONNX Runtime, and all through torch.export with a free batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sortal.export.torch_graph import as_module, rounding
from sortal.export.torch_graph.operators import OPERATORS

RANDOM = np.random.default_rng(3)
IMAGE = (4, 6, 5)
"""Channels, height, width of the input, whose batch is free."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One node that takes the image (N, 4, 6, 5) and stored tensors; `before` and `after` are nodes around it."""

    kind: str
    stored: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    before: tuple[tuple[str, dict[str, Any]], ...] = ()
    whole: bool = False
    """The result is made of whole numbers or truths, and is cast to float."""
    first: bool = True
    """Whether the image comes before the stored tensors."""
    opset: int = 20


def floats(*shape: int, positive: bool = False) -> np.ndarray:
    values = RANDOM.normal(size=shape).astype(np.float32)
    return np.abs(values) + np.float32(0.1) if positive else values


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


POSITIVE = (("Abs", {}),)
FLAT = (("Flatten", {}),)
PLAIN = ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Mish", "Neg", "Reciprocal", "Relu",
         "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh", "Dropout", "Flatten", "LogSoftmax",
         "Softmax", "GlobalAveragePool", "GlobalMaxPool", "LpNormalization", "Elu", "LeakyRelu", "HardSigmoid", "Gelu",
         "Transpose")  # fmt: skip
PAIRS = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")
ASKED = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
REDUCED = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
           "ReduceSumSquare")  # fmt: skip

CASES = [
    *(Case(kind=kind) for kind in PLAIN),
    *(Case(kind=kind, before=POSITIVE) for kind in ("Log", "Sqrt")),
    *(Case(kind=kind, stored=(floats(4, 1, 5),)) for kind in PAIRS),
    *(Case(kind=kind, stored=(floats(4, 1, 5),), first=False) for kind in PAIRS),
    *(Case(kind=kind, stored=(number(0.3),)) for kind in PAIRS),
    *(Case(kind=kind, stored=(number(0.3),), first=False) for kind in ("Sub", "Div", "Max")),
    *(Case(kind=kind, stored=(number(0.0),), whole=True) for kind in ASKED),
    *(Case(kind=kind, stored=(ints(2, -1),), attributes={"keepdims": keep}) for kind in REDUCED for keep in (0, 1)),
    Case(kind="ReduceMean"),
    Case(kind="ReduceMean", attributes={"noop_with_empty_axes": 1}),
    Case(kind="ReduceMean", attributes={"axes": [2, 3]}, opset=13),
    Case(kind="Pow", stored=(number(2.0),)),
    Case(kind="Pow", stored=(number(2.0),), first=False),
    Case(kind="Mod", stored=(number(0.4),), attributes={"fmod": 1}),
    Case(kind="PRelu", stored=(floats(4, 1, 1),)),
    Case(kind="Elu", attributes={"alpha": 0.5}),
    Case(kind="LeakyRelu", attributes={"alpha": 0.3}),
    Case(kind="HardSigmoid", attributes={"alpha": 1 / 6, "beta": 0.5}),
    Case(kind="Gelu", attributes={"approximate": "tanh"}),
    Case(kind="Softmax", attributes={"axis": 1}),
    Case(kind="Clip", stored=(number(-0.5), number(0.5))),
    Case(kind="Clip", stored=(number(0.0), number(6.0))),
    Case(kind="Clip", stored=(number(0.1),)),
    Case(kind="Where", stored=(np.array([[True], [False], [True], [True], [False], [True]]), floats(4, 6, 5)),
         first=False),
    Case(kind="Not", before=(("Cast", {"to": TensorProto.BOOL}),), whole=True),
    Case(kind="And", before=(("Cast", {"to": TensorProto.BOOL}),), stored=(np.array(True),), whole=True),
    Case(kind="Or", before=(("Cast", {"to": TensorProto.BOOL}),), stored=(np.array([False] * 5),), whole=True),
    Case(kind="Cast", attributes={"to": TensorProto.FLOAT16}, whole=True),
    Case(kind="Cast", attributes={"to": TensorProto.INT64}, whole=True),
    Case(kind="CastLike", stored=(ints(1),), whole=True),
    Case(kind="OneHot", before=(("ArgMax", {"axis": 1, "keepdims": 0}),),
         stored=(ints(4), np.array([0.5, 2.0], np.float32)), attributes={"axis": 1}),
    Case(kind="ArgMax", attributes={"axis": 1, "keepdims": 0}, whole=True),
    Case(kind="ArgMin", attributes={"axis": -1}, whole=True),
    Case(kind="TopK", stored=(ints(2),), attributes={"axis": 1}),
    Case(kind="TopK", stored=(ints(3),), attributes={"axis": -1, "largest": 0}),
    Case(kind="CumSum", stored=(ints(1),)),
    Case(kind="LpNormalization", attributes={"axis": 1, "p": 1}),
    Case(kind="Conv", stored=(floats(8, 4, 3, 3), floats(8)), attributes={"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Case(kind="Conv", stored=(floats(4, 1, 3, 3),), attributes={"group": 4, "dilations": [2, 2], "pads": [2, 0, 1, 2]}),
    Case(kind="Conv", stored=(floats(3, 4, 3, 2),), attributes={"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case(kind="Conv", stored=(floats(3, 4, 3, 2),), attributes={"auto_pad": "SAME_LOWER"}),
    Case(kind="ConvTranspose", stored=(floats(4, 3, 3, 3), floats(3)), attributes={"strides": [2, 2], "pads": [1] * 4}),
    Case(kind="Gemm", before=FLAT, stored=(floats(120, 3), floats(3))),
    Case(kind="Gemm", before=FLAT, stored=(floats(3, 120), floats(1, 3)),
         attributes={"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case(kind="MatMul", stored=(floats(5, 7),)),
    Case(kind="MatMul", stored=(floats(7, 6),), first=False),
    Case(kind="Einsum", stored=(floats(4, 4),), attributes={"equation": "nchw,cd->ndhw"}),
    Case(kind="MaxPool", attributes={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Case(kind="MaxPool", attributes={"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    Case(kind="MaxPool", attributes={"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case(kind="AveragePool", attributes={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Case(kind="AveragePool", attributes={"kernel_shape": [3, 3], "pads": [1, 0, 1, 1]}),
    Case(kind="AveragePool", attributes={"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    Case(kind="AveragePool", attributes={"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case(kind="AveragePool", attributes={"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case(kind="BatchNormalization", stored=(floats(4), floats(4), floats(4), floats(4, positive=True))),
    Case(kind="LayerNormalization", stored=(floats(5), floats(5))),
    Case(kind="LayerNormalization", stored=(floats(6, 5),), attributes={"axis": 2, "epsilon": 0.1}),
    Case(kind="InstanceNormalization", stored=(floats(4), floats(4))),
    Case(kind="GroupNormalization", stored=(floats(2), floats(2)), attributes={"num_groups": 2}),
    Case(kind="GroupNormalization", stored=(floats(4), floats(4)), attributes={"num_groups": 2}, opset=21),
    Case(kind="RMSNormalization", stored=(floats(5),), opset=23),
    Case(kind="LRN", attributes={"size": 3, "alpha": 0.1}),
    Case(kind="Pad", stored=(ints(0, 0, 1, 2, 0, 0, 0, 1), number(0.5))),
    Case(kind="Pad", stored=(ints(0, 0, 1, 2, 0, 0, 0, 1),), attributes={"mode": "reflect"}),
    Case(kind="Pad", stored=(ints(0, 0, 1, 2, 0, 0, 0, 1),), attributes={"mode": "edge"}),
    Case(kind="Concat", stored=(floats(2, 2, 6, 5),), attributes={"axis": 1}, before=(("Identity", {}),)),
    Case(kind="Reshape", stored=(ints(0, -1),)),
    Case(kind="Reshape", stored=(ints(-1, 5, 24),), attributes={"allowzero": 1}),
    Case(kind="Flatten", attributes={"axis": 2}),
    Case(kind="Transpose", attributes={"perm": [0, 2, 3, 1]}),
    Case(kind="Unsqueeze", stored=(ints(-1, 1),)),
    Case(kind="Squeeze", before=(("GlobalAveragePool", {}),), stored=(ints(2, 3),)),
    Case(kind="Slice", stored=(ints(1, -4), ints(3, -1), ints(1, 2))),
    Case(kind="Slice", stored=(ints(5), ints(-(2**63) + 1), ints(2), ints(-2))),
    Case(kind="Slice", stored=(ints(0), ints(2**63 - 1), ints(3), ints(2))),
    Case(kind="Gather", stored=(np.array(-1, np.int64),), attributes={"axis": 1}),
    Case(kind="Gather", stored=(ints(0, -1, 2),), attributes={"axis": 3}),
    Case(kind="Gather", stored=(np.array([[0, 3], [2, -1]], np.int64),), attributes={"axis": 1}),
    Case(kind="Expand", before=(("GlobalAveragePool", {}),), stored=(ints(1, 4, 3, 2),)),
    Case(kind="Tile", stored=(ints(1, 2, 1, 3),)),
    Case(kind="Trilu", attributes={"upper": 0}),
    Case(kind="Trilu", stored=(np.array(1, np.int64),)),
    Case(kind="DepthToSpace", attributes={"blocksize": 2}),
    Case(kind="DepthToSpace", attributes={"blocksize": 2, "mode": "CRD"}),
    Case(kind="SpaceToDepth", attributes={"blocksize": 1}),
    Case(kind="Split", stored=(ints(1, 3),), attributes={"axis": 1}),
    Case(kind="Split", attributes={"axis": 3, "num_outputs": 3}),
]  # fmt: skip
OF_SIZES = {"Shape", "Size", "ConstantOfShape", "Range", "GatherElements"}
"""Tested in whole graphs below."""


def built(case: Case) -> onnx.ModelProto:
    name, nodes = "image", []
    for position, (kind, attributes) in enumerate(case.before):
        nodes.append(helper.make_node(kind, [name], [f"before{position}"], **attributes))
        name = f"before{position}"
    stored = [f"stored.{place}" for place in range(len(case.stored))]
    inputs = [name, *stored] if case.first else [*stored, name]
    count = 2 if case.kind in ("TopK", "Split") else 1
    if case.kind == "Split":
        count = case.attributes.get("num_outputs", 2)
    outputs = [f"out{place}" for place in range(count)]
    nodes.append(helper.make_node(case.kind, inputs, outputs, **case.attributes))
    if case.whole or case.kind == "TopK":
        nodes.append(helper.make_node("Cast", [outputs[-1]], ["cast"], to=TensorProto.FLOAT))
        outputs[-1] = "cast"
    tensors = [numpy_helper.from_array(value, name) for name, value in zip(stored, case.stored, strict=True)]
    return graph(nodes, outputs, tensors, opset=case.opset)


def graph(nodes: list[Any], outputs: list[str], tensors: list[Any], *, opset: int = 20) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *IMAGE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        tensors,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def compare(model: onnx.ModelProto, *, batches: tuple[int, ...] = (2, 5)) -> None:
    """The module against ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    module = as_module(model)
    for count in batches:
        image = drawn(count)
        expected = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            given = [one.numpy() for one in module(image)]
        assert len(given) == len(expected)
        for one, other in zip(given, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def drawn(count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(count).normal(size=(count, *IMAGE)).astype(np.float32))


class Side(torch.nn.Module):
    """Graphs side by side."""

    def __init__(self, models: list[onnx.ModelProto]):
        super().__init__()
        self.parts = torch.nn.ModuleList(as_module(model) for model in models)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [output for part in self.parts for output in part(image)]


def exported_alike(models: list[onnx.ModelProto]) -> None:
    """Traced with a batch of 2 that is free, and answering a batch of 5 as the module itself."""
    module = Side(models).requires_grad_(False)
    free = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (drawn(2),), dynamic_shapes=free).module()
    for one, other in zip(program(drawn(5)), module(drawn(5)), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)


def name_of(case: Case) -> str:
    shapes = "x".join(str(list(np.shape(one))) for one in case.stored)
    return "-".join([case.kind, *(f"{key}={value}" for key, value in case.attributes.items()), shapes])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_operator_computes_what_onnx_runtime_does(case):
    fixed = case.kind == "Concat"  # a stored part has a batch of its own
    compare(built(case), batches=(2,) if fixed else (2, 5))


def test_all_operators_can_be_exported_with_a_free_batch():
    exported_alike([built(case) for case in CASES if case.kind != "Concat"])


def test_every_operator_of_onnx_in_the_table_is_compared():
    assert {case.kind for case in CASES} | OF_SIZES == set(OPERATORS) - set(rounding.OPERATORS)


def test_a_free_batch_stays_free_through_arithmetic_of_sizes():
    """What exporters write around attention: shapes taken apart, joined, compared and used to reshape and expand."""
    nodes = [
        helper.make_node("Shape", ["image"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["count"]),
        helper.make_node("Unsqueeze", ["count", "zeros"], ["count1"]),
        helper.make_node("Slice", ["sizes", "one", "two"], ["channels"]),
        helper.make_node("Mul", ["channels", "six"], ["rows"]),
        helper.make_node("Concat", ["count1", "rows", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["image", "wanted"], ["flat"]),
        helper.make_node("ConstantOfShape", ["three"], ["ones"], value=numpy_helper.from_array(np.array([1]))),
        helper.make_node("Equal", ["wanted", "minus"], ["asked"]),
        helper.make_node("Where", ["asked", "ones", "wanted"], ["expanded"]),
        helper.make_node("Expand", ["token", "expanded"], ["tokens"]),
        helper.make_node("Add", ["tokens", "flat"], ["out"]),
        helper.make_node("Size", ["flat"], ["all"]),
        helper.make_node("Cast", ["all"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["floats"], ["root"]),
        helper.make_node("Div", ["image", "root"], ["scaled"]),
    ]
    tensors = [
        numpy_helper.from_array(value, name)
        for name, value in {
            "zero": np.array(0, np.int64), "zeros": ints(0), "one": ints(1), "two": ints(2), "six": ints(6),
            "rest": ints(5), "three": ints(3), "minus": ints(-1), "token": floats(1, 1, 5),
        }.items()
    ]  # fmt: skip
    model = graph(nodes, ["out", "scaled"], tensors)
    compare(model)
    exported_alike([model])


def test_rows_are_picked_by_a_range_over_the_batch():
    """The form in which PyTorch exports a strided view."""
    nodes = [
        helper.make_node("Shape", ["image"], ["count"], start=0, end=1),
        helper.make_node("Squeeze", ["count"], ["last"]),
        helper.make_node("Range", ["zero", "last", "step"], ["rows"]),
        helper.make_node("Mul", ["rows", "width"], ["places"]),
        helper.make_node("Unsqueeze", ["places", "axis"], ["column"]),
        helper.make_node("Add", ["column", "offsets"], ["chosen"]),
        helper.make_node("Reshape", ["image", "flat"], ["values"]),
        helper.make_node("Gather", ["values", "chosen"], ["out"]),
        helper.make_node("Flatten", ["image"], ["table"]),
        helper.make_node("GatherElements", ["table", "chosen"], ["elements"], axis=1),
    ]
    tensors = [
        numpy_helper.from_array(value, name)
        for name, value in {
            "zero": np.array(0, np.int64), "step": np.array(1, np.int64), "width": np.array(4, np.int64),
            "axis": ints(1), "offsets": np.array([[0, 1, 2]], np.int64), "flat": ints(-1),
        }.items()
    ]  # fmt: skip
    model = graph(nodes, ["out", "elements"], tensors)
    compare(model)
    exported_alike([model])
