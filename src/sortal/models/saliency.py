"""Saliency maps from gradients: Grad-CAM and LayerCAM for networks of any family, without naming a layer.

The layers to look at are found by what they do: outputs of the backbone's stages that have positions and whose
positions have a gradient. In a transformer that answers from a class token the last block's other tokens have none, so
that the block before is taken. Maps without torch are `evaluate.explain.maps`.

Shapes: N batch, C channels, H and W pixels, F feature channels, h and w feature positions, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sortal.core.errors import InternalError
from sortal.models.network import Network
from sortal.models.pooling import stage_modules

Floats = NDArray[np.float64]

LAYERS = 3
"""LayerCAM joins the maps of so many last stages."""
_SLACK = 1e-6
_SHARPNESS = 2.0


def gradient_maps(network: Network, image: NDArray[np.float32], target: int) -> dict[str, Floats]:
    """`grad_cam` and `layer_cam`, each (h, w) and at least 0, for class `target` of one normalized image (C, H, W).

    Selvaraju et al. (2017), "Grad-CAM: visual explanations from deep networks via gradient-based localization"; Jiang
    et al. (2021), "LayerCAM: exploring hierarchical class activation maps". The score is the log-odds of the class.
    The network is left as it was. Raises InternalError for a network without a stage that has positions.
    """
    stages = _stages(network, torch.from_numpy(np.ascontiguousarray(image))[None], target)
    if not stages:
        raise InternalError(f"no stage of {network.architecture} has positions with a gradient")
    return {"grad_cam": _grad_cam(*stages[-1]), "layer_cam": _layer_cam(stages[-LAYERS:])}


def shuffled(network: Network, *, seed: int = 0) -> Network:
    """A copy whose weight tensors have their numbers shuffled: same sizes and spread, nothing learned."""
    generator = torch.Generator().manual_seed(seed)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            if sum(size > 1 for size in parameter.shape) > 1:
                order = torch.randperm(parameter.numel(), generator=generator)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return twin


def _stages(network: Network, image: Tensor, target: int) -> list[tuple[Tensor, Tensor]]:
    """Activation and gradient, (F, h, w) each, of every stage whose positions have a gradient, in order."""
    heard: dict[int, Tensor] = {}
    with _looked_at(network), torch.enable_grad():
        modules = stage_modules(network.backbone, network.stages())
        handles = [module.register_forward_hook(_listener(heard, place)) for place, module in enumerate(modules)]
        try:
            logits, _, feature_map = network(image.clone().requires_grad_())
        finally:
            for handle in handles:
                handle.remove()
        outputs = [heard[place] for place in sorted(heard)] or [feature_map]
        others = torch.cat([logits[:, :target], logits[:, target + 1 :]], 1)
        score = logits[:, target] - (torch.logsumexp(others, 1) if others.shape[1] else 0.0)
        gradients = torch.autograd.grad(score.sum(), outputs, allow_unused=True)
    aspect = image.shape[2] / image.shape[3]
    found = []
    for output, gradient in zip(outputs, gradients, strict=True):
        if gradient is None or output.ndim not in (3, 4):
            continue
        activation, slope = (_as_map(network.backbone, part, aspect)[0].detach() for part in (output, gradient))
        if activation.shape[1] * activation.shape[2] > 1 and bool((slope != 0).any()):
            found.append((activation, torch.nan_to_num(slope, posinf=0.0, neginf=0.0)))
    return found


def _listener(heard: dict[int, Tensor], place: int) -> Any:
    def listen(module: nn.Module, given: Any, output: Any) -> None:  # noqa: ARG001 (torch's signature)
        if isinstance(output, Tensor) and output.requires_grad:
            heard[place] = output

    return listen


@contextmanager
def _looked_at(network: Network) -> Iterator[None]:
    """Evaluation mode, one view, and roots whose slope is finite; all put back afterwards."""
    was_training, wiring, slack = network.training, network.wiring, network.pooling.slack
    network.eval()
    network.wiring, network.pooling.slack = replace(wiring, views="single"), _SLACK
    try:
        yield
    finally:
        network.wiring, network.pooling.slack = wiring, slack
        network.train(was_training)


def _as_map(backbone: nn.Module, features: Tensor, aspect: float) -> Tensor:
    """(N, F, h, w) from what a stage gives: that, the channels last, or tokens."""
    turn = getattr(backbone, "as_map", None)
    result: Tensor = features if turn is None else turn(features, aspect)
    return result


def _grad_cam(activation: Tensor, gradient: Tensor) -> Floats:
    weights = gradient.mean((1, 2), keepdim=True)
    return _array(torch.relu((weights * activation).sum(0)))


def _layer_cam(stages: list[tuple[Tensor, Tensor]]) -> Floats:
    """The largest over stages at the finest grid; earlier stages are sharpened as the paper does, by tanh."""
    maps = [torch.relu((torch.relu(gradient) * activation).sum(0)) for activation, gradient in stages]
    size = max((tuple(one.shape) for one in maps), key=lambda shape: shape[0] * shape[1])
    joined = torch.zeros(size)
    for number, one in enumerate(maps, start=1):
        scaled = one / one.max().clamp_min(1e-12)
        scaled = scaled if number == len(maps) else torch.tanh(_SHARPNESS * scaled)
        large = nn.functional.interpolate(scaled[None, None], size, mode="bilinear", align_corners=False)
        joined = torch.maximum(joined, large[0, 0])
    return _array(joined)


def _array(values: Tensor) -> Floats:
    return values.cpu().numpy().astype(np.float64)
