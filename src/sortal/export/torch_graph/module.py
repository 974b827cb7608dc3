"""The module: stored tensors as parameters and buffers, and a forward pass that runs the nodes in their order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sortal.core.errors import BundleError, SortalError
from sortal.export.torch_graph.operators import OPERATORS
from sortal.export.torch_graph.reading import Graph, Node
from sortal.export.torch_graph.values import Numbers, Value, from_array, tensor

WITHOUT_TORCH = ("onnx", "onnx-uint8", "openvino", "triton")
"""Artifacts that are made without this module, whatever operators a graph has."""


class GraphModule(nn.Module):
    """(N, channels, height, width) to the tuple of the graph's outputs; see `torch_graph.as_module`."""

    def __init__(self, graph: Graph):
        super().__init__()
        self.input_name = graph.input
        self.output_names = graph.outputs
        self._nodes = graph.nodes
        self._where = graph.where
        self._numbers = {name: from_array(array) for name, array in graph.numbers.items()}
        self._places: dict[str, tuple[str, str]] = {}
        _require_known(graph)
        for name, array in graph.weights.items():
            self._store(name, nn.Parameter(torch.from_numpy(array.copy())))
        for name, array in graph.buffers.items():
            self._store(name, torch.from_numpy(array.copy()))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Batch in, outputs in the order of `output_names`. Raises BundleError where a node does not fit its inputs."""
        values: dict[str, Value] = {self.input_name: image, **self._numbers}
        for name in self._places:
            values[name] = self.stored(name)
        for node in self._nodes:
            self._run(node, values)
        return tuple(tensor(values[name], image) for name in self.output_names)

    def stored(self, name: str) -> Tensor:
        """The parameter or buffer that holds the graph's tensor `name`. Raises KeyError where it holds none."""
        owner, attribute = self._places[name]
        found: Tensor = getattr(self.get_submodule(owner), attribute)
        return found

    def keys(self) -> dict[str, str]:
        """By the graph's names, the keys of `state_dict`; the same but for names that PyTorch does not allow."""
        return {name: f"{owner}.{own}" if owner else own for name, (owner, own) in self._places.items()}

    def _run(self, node: Node, values: dict[str, Value]) -> None:
        given = [values[name] if name else None for name in node.inputs]
        try:
            results: Any = OPERATORS[node.kind](node.attributes, *given)
        except SortalError as error:
            raise BundleError(
                f"layer {node.name} ({node.kind}): {error.what}",
                where=self._where,
                received=error.received,
                hint=error.hint,
            ) from error
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            reason = str(error).strip().split("\n", 1)[0][:300]
            raise BundleError(
                f"layer {node.name} ({node.kind}) cannot be run by PyTorch: {reason}",
                where=self._where,
                hint=f"export to one of {', '.join(WITHOUT_TORCH)}",
            ) from error
        parts = (results,) if isinstance(results, Tensor | Numbers) else tuple(results)
        values.update((name, part) for name, part in zip(node.outputs, parts, strict=False) if name)

    def _store(self, name: str, value: Tensor) -> None:
        """Under its own name, `a.b` as `b` of the submodule `a`; in a plain place where that name cannot be had."""
        *path, own = name.split(".") if all(name.split(".")) else [name.replace(".", "_")]
        owner: nn.Module = self
        for part in path:
            if not isinstance(getattr(owner, part, nn.Module()), nn.Module):
                owner, path, own = self, [], f"tensor_{len(self._places)}"
                break
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if hasattr(owner, own):
            own = f"tensor_{len(self._places)}"
        if isinstance(value, nn.Parameter):
            owner.register_parameter(own, value)
        else:
            owner.register_buffer(own, value)
        self._places[name] = (".".join(path), own)


def _require_known(graph: Graph) -> None:
    unknown = [node for node in graph.nodes if node.kind not in OPERATORS]
    if unknown:
        kinds = ", ".join(dict.fromkeys(node.kind for node in unknown))
        raise BundleError(
            f"layer {unknown[0].name}: the operator {unknown[0].kind} has no counterpart in PyTorch here",
            where=graph.where,
            received=f"{len(unknown)} such layers: {kinds}" if len(unknown) > 1 else None,
            hint=f"export to one of {', '.join(WITHOUT_TORCH)}, which take every operator",
        )
