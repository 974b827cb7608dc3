"""What a network is built of, read from its own computation: depth, normalization, skips, depthwise convolutions.

These are the means by which modern networks are trained deep (skips and normalization carry the gradient to the first
layer) and run fast (depthwise convolutions). Read on the meta device, it costs neither memory nor numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

_WEIGHTED = ("ConvolutionBackward0", "AddmmBackward0", "MmBackward0")
_SUM, _JOIN = "AddBackward0", "CatBackward0"
_NORMS = {
    "batch": (nn.modules.batchnorm._BatchNorm,),
    "layer": (nn.LayerNorm,),
    "group": (nn.GroupNorm,),
}


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """`depth`: layers with weights on the longest way from the image to the logits (ResNet-50: 50)."""

    depth: int
    normalization: str
    """`batch`, `layer`, `group`, several of them, or `none`."""
    skip: str
    """`additive xN` (residual), `concatenating xN`, both, or `none`: N places where a short and a long way meet."""
    depthwise: int
    """How many convolutions take each channel alone."""


def read_anatomy(network: nn.Module, image: Tensor, logits: Tensor) -> Anatomy:
    """From logits that `network` computed of an `image` that requires gradients."""
    depths, met = _walk(logits.grad_fn, image)
    skips = [f"{kind} x{met[name]}" for kind, name in (("additive", _SUM), ("concatenating", _JOIN)) if met[name]]
    modules = list(network.modules())
    norms = [name for name, kinds in _NORMS.items() if any(isinstance(module, kinds) for module in modules)]
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    return Anatomy(
        depth=depths[logits.grad_fn],
        normalization=", ".join(norms) or "none",
        skip=", ".join(skips) or "none",
        depthwise=sum(1 < layer.groups == layer.in_channels for layer in convolutions),
    )


def _walk(last: Any, image: Tensor) -> tuple[dict[Any, int], Counter[str]]:
    """Layers with weights on the longest way from the image to each node of autograd's graph that `last` is computed
    from (no entry where no way leads to the image), and how often ways of different length meet, by kind of node."""
    depths: dict[Any, int] = {}
    met: Counter[str] = Counter()
    done, waiting = set(), [last]
    while waiting:
        node = waiting[-1]
        before = [found for found, _ in node.next_functions if found is not None]
        missing = [found for found in before if found not in done]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if node in done:
            continue
        done.add(node)
        ways = [depths[found] for found in before if found in depths]
        if ways or getattr(node, "variable", None) is image:
            depths[node] = max(ways, default=0) + (node.name() in _WEIGHTED)
        met[node.name()] += len(set(ways)) > 1
    return depths, met
