"""Which layer of a graph LiteRT cannot take: its converter names an operator of PyTorch, not the layer it came from.

Every kind of layer is converted alone, with the values that reach it for one image, until one fails.
"""

from __future__ import annotations

from typing import Any

from sortal.export.torch_graph.module import GraphModule
from sortal.export.torch_graph.operators import OPERATORS
from sortal.export.torch_graph.reading import Node


def refused_layer(module: GraphModule, image: Any) -> str | None:
    """`node_name (Kind)` of the first layer that cannot be converted alone; None where all of them can."""
    values: dict[str, Any] = {module.input_name: image, **module._numbers}
    values |= {name: module.stored(name) for name in module._places}
    used = {name for node in module._nodes for name in node.inputs} | set(module.output_names)
    tried = set()
    for node in module._nodes:
        given = [values[name] if name else None for name in node.inputs]
        module._run(node, values)
        key = (node.kind, *(getattr(one, "dtype", None) for one in given))
        if key not in tried and not _is_taken(node, given, used):
            return f"{node.name} ({node.kind})"
        tried.add(key)
    return None


def _is_taken(node: Node, given: list[Any], used: set[str]) -> bool:
    import torch
    from torch import Tensor, nn

    places = [place for place, one in enumerate(given) if isinstance(one, Tensor)]
    if not places:
        return True

    class Alone(nn.Module):
        """The layer's tensors in, what it makes of them out."""

        def forward(self, *tensors: Tensor) -> Any:
            filled = list(given)
            for place, one in zip(places, tensors, strict=True):
                filled[place] = one
            made = OPERATORS[node.kind](node.attributes, *filled)
            parts = [made] if isinstance(made, Tensor) else list(made)
            wanted = [part for part, name in zip(parts, node.outputs, strict=False) if name in used]
            return [part + 0 if part.dtype != torch.bool else part for part in wanted]

    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    try:
        made = litert_torch.convert(Alone().eval(), tuple(given[place] for place in places))
        Interpreter(model_content=made.model_content()).allocate_tensors()
    except Exception:  # whatever it raises, it was this layer
        return False
    return True
