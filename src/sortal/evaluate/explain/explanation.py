"""One answer explained: answer and runner-up, maps with their checks, nearest training images. Nothing is written.

Maps by gradients come from the build side as functions; everything here runs without torch.

Shapes: H and W pixels, h and w positions of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sortal.core.predictions import Predictions, predictions_from_logits
from sortal.core.preprocess import Pixels
from sortal.evaluate.explain.checks import CHANGED_BELOW, Deletion, deletion, rank_correlation
from sortal.evaluate.explain.maps import additive_map, enlarged, occlusion_map
from sortal.evaluate.explain.neighbors import Neighbor
from sortal.evaluate.explain.viewed import Viewed
from sortal.runtime.engines.protocol import Outputs

Floats = NDArray[np.float64]
Gradients = Callable[[Pixels, int], Mapping[str, Floats]]
"""A prepared image (H, W, channels) and a class to maps (h, w) by name."""

TITLES = {
    "occlusion": "covering places",
    "feature_map": "feature map",
    "grad_cam": "Grad-CAM",
    "layer_cam": "LayerCAM",
}


@dataclass(frozen=True, kw_only=True)
class CheckedMap:
    """A map at the size of the network's input, with what its checks found."""

    kind: str
    values: Floats
    """(H, W)"""
    deletion: Deletion
    random_weights: float | None
    """Rank correlation with the map that random weights give; None where that could not be had."""
    share: float | None = None
    """Of a feature map: how much of the class's score it holds."""

    @property
    def changed(self) -> bool | None:
        """Whether random weights change the map; None where unknown."""
        return None if self.random_weights is None else self.random_weights < CHANGED_BELOW


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why an image was answered as it was. `target` is the class that the maps are about."""

    name: str
    pixels: Pixels
    answer: str
    probability: float
    abstained: bool
    runner_up: str | None
    runner_up_probability: float
    target: str
    target_probability: float
    maps: Sequence[CheckedMap]
    neighbors: Sequence[Neighbor]
    embedding: NDArray[np.float32]


def explain_pixels(
    view: Viewed,
    random: Viewed | None,
    pixels: Pixels,
    name: str,
    *,
    target: int | None,
    gradients: Gradients | None,
    random_gradients: Gradients | None,
) -> Explanation:
    """Explain the answer to one prepared image (H, W, channels), or with `target` the evidence for that class."""
    outputs = view.outputs(pixels[None])
    said = _predicted(view, outputs, name)
    order, chances = (part[0] for part in said.top_k(2))
    chosen = int(said.index[0]) if target is None else target
    names = view.info.labels.names
    return Explanation(
        name=name,
        pixels=pixels,
        answer=names[int(said.index[0])],
        probability=float(said.probabilities[0, said.index[0]]),
        abstained=bool(said.abstained[0]),
        runner_up=names[int(order[1])] if len(order) > 1 else None,
        runner_up_probability=float(chances[1]) if len(order) > 1 else 0.0,
        target=names[chosen],
        target_probability=float(said.probabilities[0, chosen]),
        maps=_maps(view, random, pixels, chosen, gradients, random_gradients),
        neighbors=(),
        embedding=outputs.embedding[0],
    )


def _predicted(view: Viewed, outputs: Outputs, name: str) -> Predictions:
    info = view.info
    return predictions_from_logits(
        outputs.logits,
        names=[name],
        labels=info.labels,
        decision=info.decision,
        bundle_id=info.bundle_id,
        unknown_score=outputs.unknown_score,
    )


def _maps(
    view: Viewed,
    random: Viewed | None,
    pixels: Pixels,
    target: int,
    gradients: Gradients | None,
    random_gradients: Gradients | None,
) -> list[CheckedMap]:
    size = pixels.shape[:2]
    own, shares = _torch_free(view, pixels, target)
    twin = {} if random is None else _torch_free(random, pixels, target)[0]
    if gradients is not None:
        own |= {kind: enlarged(values, size) for kind, values in gradients(pixels, target).items()}
    if random_gradients is not None:
        twin |= {kind: enlarged(values, size) for kind, values in random_gradients(pixels, target).items()}
    return [
        CheckedMap(
            kind=kind,
            values=values,
            deletion=deletion(lambda images: view.scores(images, target), pixels, values),
            random_weights=rank_correlation(values, twin[kind]) if kind in twin else None,
            share=shares.get(kind),
        )
        for kind, values in own.items()
    ]


def _torch_free(view: Viewed, pixels: Pixels, target: int) -> tuple[dict[str, Floats], dict[str, float]]:
    """The maps that need no gradients, and the share of the score that the feature map holds."""
    maps, shares = {"occlusion": occlusion_map(lambda images: view.scores(images, target), pixels)}, dict[str, float]()
    if view.head is not None:
        outputs = view.outputs(pixels[None])
        found = additive_map(outputs.feature_map[0], outputs.embedding[0], view.head, target)
        if found is not None:
            maps["feature_map"] = enlarged(found.values, pixels.shape[:2])
            shares["feature_map"] = found.share
    return maps, shares
