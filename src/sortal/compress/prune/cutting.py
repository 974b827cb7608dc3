"""One cut: as many channels as the goal asks for, those that the criterion finds least worth; norms measure anew."""

from __future__ import annotations

from dataclasses import dataclass

from sortal.compress.prune.amounts import Measure, channels_to_keep, layers_of
from sortal.compress.prune.channels import Anatomy, anatomy
from sortal.compress.prune.criteria import Criterion, least, score_channels
from sortal.compress.prune.ground import Ground, settle_statistics
from sortal.compress.prune.surgery import without
from sortal.core.errors import RecipeError
from sortal.models.network import Network

_TAYLOR_IMAGES = 256
"""Training images whose gradients say what a channel does for the loss."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A network after a cut, before it was trained."""

    network: Network
    left: int
    """Multiplications or weights of its layers."""
    anatomy: Anatomy
    """Of the network before."""


def total(network: Network, ground: Ground, measure: Measure) -> int:
    """Multiplications of an image, or weights, of the layers of a backbone."""
    layers = layers_of(network, size=ground.size, channels=ground.channels)
    return sum(layer.cost(measure) for layer in layers.values())


def cut_to(network: Network, ground: Ground, *, goal: int, measure: Measure, criterion: Criterion) -> Cut:
    """Cut until at most `goal` is left. Raises RecipeError where the network cannot be cut, or not so far."""
    found = anatomy(network, size=ground.size, channels=ground.channels)
    layers = layers_of(network, size=ground.size, channels=ground.channels)
    kept, left = channels_to_keep(found, layers, goal=goal, measure=measure)
    if left > goal:
        most = 1 - left / sum(layer.cost(measure) for layer in layers.values())
        raise RecipeError(
            f"no more than {most:.0%} of what is left of this network can be cut",
            where="compress.prune",
            received=str(ground.recipe.compress.prune),
            hint="ask for a smaller share",
        )
    batches = ground.batches(ground.material.calibration, _TAYLOR_IMAGES) if criterion == "taylor" else ()
    scores = score_channels(network, found, criterion, batches)
    gone = {
        number: least(mine, one.fold, (one.count - stays) // one.fold)
        for number, (mine, one, stays) in enumerate(zip(scores, found.sets, kept, strict=True))
    }
    small = without(network, found, gone)
    settle_statistics(small, ground)
    return Cut(network=small, left=left, anatomy=found)
