"""An exported graph as a PyTorch module, so that everything PyTorch makes is made from the one graph.

    module = as_module(onnx.load_model("model.onnx"))
    logits, embedding, feature_map = module(image)

Artifacts of PyTorch's world (torch.export, TorchScript, ExecuTorch, Core ML, LiteRT) start here and not at the training
module, so that they hold what was checked: the head that was fitted last, the unknown score, fused normalization.
Operators are in `operators.OPERATORS`, one function each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from sortal.export.torch_graph.module import GraphModule


def as_module(model: onnx.ModelProto, *, where: str = "model") -> GraphModule:
    """A module from `image` to the tuple of the graph's outputs, in the order of its `output_names`.

    Stored float tensors become parameters or buffers under their own names; the module computes the same in training
    and evaluation mode, takes gradients, and can be traced with a fixed or a free batch if the graph's is free.
    Graphs older than operation set 18 are brought there. Raises BundleError for an operator that is not known here
    (with its node and the targets that need none of this), and for a graph that has not exactly one input.
    """
    from sortal.export.torch_graph.module import GraphModule
    from sortal.export.torch_graph.reading import read_graph

    return GraphModule(read_graph(model, where=where))
