"""Write operations into an ONNX graph one after the other, each named by what it gives out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


class Nodes:
    """Operations under a common `prefix`; equal constants and equal operations are stored once.

    They go to the end of the graph, or into the list `into` for a caller who puts them elsewhere.
    """

    def __init__(self, graph: onnx.GraphProto, prefix: str, *, into: list[onnx.NodeProto] | None = None):
        self._graph = graph
        self._prefix = prefix
        self._into = graph.node if into is None else into
        self._known: dict[Any, str] = {}

    def constant(self, value: NDArray[Any]) -> str:
        """A float tensor; float16 is widened by the graph."""
        kind = np.float16 if value.dtype == np.float16 else np.float32
        name = self.store(np.asarray(value, kind))
        return self.node("Cast", name, to=1) if kind is np.float16 else name

    def axes(self, *axes: int) -> str:
        """A list of whole numbers."""
        return self.store(np.array(axes, np.int64))

    def store(self, value: NDArray[Any]) -> str:
        """A tensor of the array's own type."""
        from onnx import numpy_helper

        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = self._new_name("constant")
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), self._known[key]))
        return self._known[key]

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One operation; its first output."""
        from onnx import helper

        key = (kind, inputs, repr(sorted(attributes.items())))
        if key not in self._known:
            name = self._new_name(kind)
            outputs = [f"{name}.0", f"{name}.1"] if kind == "TopK" else [name]
            self._into.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
            self._known[key] = outputs[0]
        return self._known[key]

    def give(self, value: str, name: str) -> str:
        """The tensor `value` under a name of the caller's choice."""
        from onnx import helper

        self._into.append(helper.make_node("Identity", [value], [name], name=f"{self._prefix}as_{name}"))
        return name

    def branch(self) -> Nodes:
        """Operations for one branch of an `If`; they may use every tensor outside."""
        import onnx

        return Nodes(onnx.GraphProto(), self._new_name("branch") + ".")

    def ends_in(self, value: str) -> onnx.GraphProto:
        """The branch, giving the float tensor `value`."""
        import onnx
        from onnx import helper

        kind = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
        self._graph.name = value
        self._graph.output.append(helper.make_value_info(value, kind))
        return self._graph

    def _new_name(self, kind: str) -> str:
        return f"{self._prefix}{len(self._known)}.{kind.lower()}"
